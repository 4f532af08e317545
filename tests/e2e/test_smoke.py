"""The least a server must do; every other file rests on it."""


def test_info_ping_publish_subscribe(client):
    c = client()
    assert c.info["version"]
    c.sub("a.*").pub("a.b", "hello")
    assert c.ping() == [("a.b", "1", None, None, b"hello")]


def test_request_reply_between_two_clients(client):
    a, b = client(), client()
    b.sub("help", queue="workers").ping()
    a.sub("inbox").pub("help", "please", reply="inbox")
    got = b.msg()
    b.pub(got.reply, "here you are")
    assert a.msg().data == b"here you are"
