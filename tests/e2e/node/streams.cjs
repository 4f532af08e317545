// One scenario of JetStream per run over an official JavaScript client; its result as one JSON line.
//   node streams.cjs nats|@nats-io/transport-node SCENARIO URL
"use strict";
const [library, scenario, url] = process.argv.slice(2);
// Not there by itself before Node 19; @nats-io/obj takes it for granted.
globalThis.crypto ??= require("node:crypto").webcrypto;
const nats = require(library);
const text = new TextEncoder(), plain = new TextDecoder();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const patience = 5000;

// The two generations of the library under one set of names.
const old = {
  js: (c) => c.jetstream(),
  manager: (c) => c.jetstreamManager(),
  bucket: (c, name, options) => c.jetstream().views.kv(name, options),
  objects: (c, name, options) => c.jetstream().views.os(name, options),
  async push(c, stream, config, onMessage) {
    const options = nats.consumerOpts(config);
    options.bindStream(stream);
    options.callback((_, m) => m && onMessage(m));
    return (await c.jetstream().subscribe("", options)).consumerInfo();
  },
};
const split = {
  js: (c) => require("@nats-io/jetstream").jetstream(c),
  manager: (c) => require("@nats-io/jetstream").jetstreamManager(c),
  bucket: (c, name, options) => new (require("@nats-io/kv").Kvm)(c).create(name, options),
  objects: (c, name, options) => new (require("@nats-io/obj").Objm)(c).create(name, options),
  async push(c, stream, config, onMessage) {
    await (await this.manager(c)).consumers.add(stream, config);
    const consumer = await this.js(c).consumers.getPushConsumer(stream, config.durable_name);
    await consumer.consume({ callback: onMessage });
    return consumer.info(true);
  },
};
const api = library === "nats" ? old : split;

// A connection to a server without streams; stream is made, if given.
async function open(stream) {
  const c = await nats.connect({ servers: url, timeout: patience });
  const jsm = await api.manager(c);
  for (const name of await jsm.streams.names().next()) await jsm.streams.delete(name);
  if (stream) await jsm.streams.add({ name: stream.name, subjects: [`${stream.name}.>`], ...stream });
  return { c, jsm, js: api.js(c) };
}

// The code of a refusal of JetStream, in both generations.
const code = async (promise) => {
  try {
    await promise;
    return 0;
  } catch (e) {
    return e.api_error?.err_code ?? e.code ?? e.name;
  }
};

async function collect(iterator, count) {
  const got = [];
  for await (const m of iterator) {
    got.push(m);
    if (got.length === count) break;
  }
  return got;
}

const scenarios = {
  async streams() {
    const { c, jsm, js } = await open({ name: "ORDERS", max_msgs_per_subject: 3, storage: "file" });
    for (let i = 0; i < 5; i++) await js.publish("ORDERS.new", text.encode(`n${i}`));
    await js.publish("ORDERS.paid", text.encode("p"));
    const result = {};
    let info = await jsm.streams.info("ORDERS", { subjects_filter: ">" });
    result.state = [info.state.messages, info.state.first_seq, info.state.last_seq, info.state.subjects];
    result.message = plain.decode((await jsm.streams.getMessage("ORDERS", { last_by_subj: "ORDERS.paid" })).data);
    await jsm.streams.deleteMessage("ORDERS", 4);
    info = await jsm.streams.info("ORDERS", { deleted_details: true });
    result.deleted = info.state.deleted;
    result.purged = (await jsm.streams.purge("ORDERS", { filter: "ORDERS.new", keep: 1 })).purged;
    const changed = await jsm.streams.update("ORDERS", { max_msgs: 1, description: "few" });
    result.changed = [changed.config.max_msgs, changed.config.description, changed.state.messages];
    result.names = await jsm.streams.names().next();
    result.listed = (await jsm.streams.list().next()).map((s) => s.config.name);
    result.found = await jsm.streams.find("ORDERS.x");
    result.other = await code(jsm.streams.add({ name: "OTHER", subjects: ["ORDERS.*"] }));
    result.missing = await code(jsm.streams.info("NONE"));
    const account = await jsm.getAccountInfo();
    result.account = [account.streams, account.api.errors > 0];
    result.gone = await jsm.streams.delete("ORDERS");
    await c.close();
    return result;
  },
  async publish() {
    const { c, js } = await open({ name: "PUB", storage: "file" });
    const put = (options) => js.publish("PUB.a", text.encode("x"), { timeout: patience, ...options });
    const result = {};
    const first = await put({ msgID: "one", expect: { streamName: "PUB", lastSequence: 0 } });
    result.first = [first.stream, first.seq, first.duplicate];
    const again = await put({ msgID: "one" });
    result.again = [again.seq, again.duplicate];
    result.refused = [
      await code(put({ expect: { streamName: "X" } })),
      await code(put({ expect: { lastSequence: 7 } })),
      await code(put({ expect: { lastSubjectSequence: 7 } })),
      await code(put({ expect: { lastMsgID: "two" } })),
    ];
    result.fits = (await put({ expect: { lastSubjectSequence: 1, lastMsgID: "one" } })).seq;
    const acks = await Promise.all(Array.from({ length: 500 }, () => put()));
    result.many = acks.every((a, i) => a.seq === i + 3);
    await c.close();
    return result;
  },
  async pull() {
    const { c, jsm, js } = await open({ name: "PULL", storage: "file" });
    await Promise.all(Array.from({ length: 20 }, (_, i) => js.publish("PULL.a", text.encode(String(i)))));
    const second = 1000000000;
    await jsm.consumers.add("PULL", { durable_name: "d", ack_policy: "explicit", ack_wait: 30 * second, max_deliver: 3 });
    const consumer = await js.consumers.get("PULL", "d");
    const result = {};
    const fetched = await collect(await consumer.fetch({ max_messages: 4, expires: patience }), 4);
    result.fetched = fetched.map((m) => plain.decode(m.data));
    result.info = [fetched[3].info.streamSequence, fetched[3].info.deliverySequence, fetched[3].info.deliveryCount, fetched[3].info.pending];
    await fetched[0].ackAck();
    fetched[1].nak(200);
    fetched[2].term("bad");
    fetched[3].working();
    const asked = Date.now();
    const consuming = await consumer.consume({ max_messages: 10 });
    const seen = [];
    for await (const m of consuming) {
      seen.push([m.seq, m.info.deliveryCount]);
      if (m.seq === 2) result.waited = Date.now() - asked >= 190;
      m.ack();
      if (seen.length === 17) consuming.stop();
    }
    result.again = seen.filter(([, count]) => count > 1);
    result.seen = seen.map(([seq]) => seq).sort((a, b) => a - b);
    fetched[3].ack();
    await c.flush();
    for (let i = 0; i < 100 && (await consumer.info()).num_ack_pending > 0; i++) await pause(20);
    const info = await consumer.info();
    result.floor = [info.ack_floor.stream_seq, info.num_ack_pending, info.num_pending];
    result.none = await consumer.next({ expires: 1000 }) === null;
    const late = consumer.next({ expires: patience });
    await js.publish("PULL.a", text.encode("late"));
    const m = await late;
    result.late = plain.decode(m.data);
    await m.ackAck();
    result.names = (await jsm.consumers.list("PULL").next()).map((i) => i.name);
    result.gone = await jsm.consumers.delete("PULL", "d");
    await c.close();
    return result;
  },
  async ordered() {
    const { c, js } = await open({ name: "ORD", storage: "memory" });
    await Promise.all(Array.from({ length: 300 }, (_, i) => js.publish(`ORD.${i % 2}`, text.encode(String(i)))));
    const consumer = await js.consumers.get("ORD", { filterSubjects: "ORD.1", filter_subjects: "ORD.1" });
    const got = [], consuming = await consumer.consume({ max_messages: 50 });
    for await (const m of consuming) {
      got.push(plain.decode(m.data));
      if (m.info.pending === 0) consuming.stop();
    }
    await c.close();
    return { count: got.length, right: got.every((d, i) => d === String(2 * i + 1)) };
  },
  async push() {
    const { c, jsm, js } = await open({ name: "PUSH", storage: "file" });
    await Promise.all(Array.from({ length: 10 }, (_, i) => js.publish("PUSH.a", text.encode(String(i)))));
    const got = [];
    let finish;
    const done = new Promise((r) => (finish = r));
    const second = 1000000000;
    const info = await api.push(c, "PUSH", {
      durable_name: "p", deliver_subject: nats.createInbox(), deliver_policy: "all", ack_policy: "explicit",
      ack_wait: 10 * second, idle_heartbeat: second, flow_control: true,
    }, (m) => {
      got.push(plain.decode(m.data));
      m.ack();
      if (got.length === 11) finish();
    });
    await js.publish("PUSH.a", text.encode("10"));
    await done;
    await c.flush();
    let state = await jsm.consumers.info("PUSH", "p");
    for (let i = 0; i < 100 && state.ack_floor.stream_seq < 11; i++) {
      await pause(20);
      state = await jsm.consumers.info("PUSH", "p");
    }
    await c.close();
    return { got, name: info.name, bound: state.push_bound, floor: state.ack_floor.stream_seq };
  },
  async kv() {
    const { c } = await open();
    const kv = await api.bucket(c, "B", { history: 3, storage: "file" });
    const changes = [], watch = await kv.watch({ key: "k.>" });
    const watching = (async () => {
      for await (const e of watch) {
        changes.push([e.key, e.operation, plain.decode(e.value)]);
        if (e.operation === "PURGE") break;
      }
    })();
    const result = { revisions: [] };
    result.revisions.push(await kv.put("k.a", text.encode("1")));
    result.revisions.push(await kv.create("k.b", text.encode("2")));
    result.exists = await code(kv.create("k.b", text.encode("3"))) !== 0;
    result.revisions.push(await kv.update("k.a", text.encode("4"), 1));
    result.stale = await code(kv.update("k.a", text.encode("5"), 1)) !== 0;
    const e = await kv.get("k.a");
    result.got = [e.key, plain.decode(e.value), e.revision, e.operation];
    result.first = plain.decode((await kv.get("k.a", { revision: 1 })).value);
    await kv.put("k.a", text.encode("6"));
    await kv.put("k.a", text.encode("7"));
    result.history = [];
    for await (const h of await kv.history({ key: "k.a" })) result.history.push([h.revision, plain.decode(h.value)]);
    await kv.delete("k.b");
    result.deleted = (await kv.get("k.b"))?.operation ?? null;
    result.again = await kv.create("k.b", text.encode("8"));
    result.keys = [];
    for await (const k of await kv.keys()) result.keys.push(k);
    result.keys.sort();
    await kv.purge("k.a");
    await watching;
    result.changes = changes;
    const status = await kv.status();
    result.status = [status.bucket, status.values, status.history];
    result.missing = await kv.get("none");
    const brief = await api.bucket(c, "T", { ttl: 400, storage: "file" });
    await brief.put("x", text.encode("soon gone"));
    const there = await brief.get("x") !== null;
    for (let i = 0; i < 200 && await brief.get("x"); i++) await pause(25);
    result.ttl = [there, await brief.get("x")];
    result.gone = await kv.destroy();
    await c.close();
    return result;
  },
  async objects() {
    const { c } = await open();
    const os = await api.objects(c, "FILES", { storage: "file", description: "things" });
    const big = new Uint8Array(300000).map((_, i) => i * 7);
    const result = {};
    const put = await os.putBlob({ name: "dir/big file", description: "d", options: { max_chunk_size: 65536 } }, big);
    result.put = [put.name, put.size, put.chunks];
    const back = await os.getBlob("dir/big file");
    result.same = back.length === big.length && back.every((b, i) => b === big[i]);
    await os.putBlob({ name: "small" }, text.encode("s"));
    const listed = await os.list();
    result.listed = listed.map((i) => i.name).sort();
    await os.putBlob({ name: "small" }, text.encode("other"));
    result.replaced = plain.decode(await os.getBlob("small"));
    await os.delete("dir/big file");
    result.deleted = [await os.getBlob("dir/big file"), (await os.info("dir/big file")).deleted];
    const status = await os.status();
    result.status = [status.bucket, status.description, status.sealed];
    const sealed = await os.seal();
    result.sealed = sealed.sealed;
    result.refused = await code(os.putBlob({ name: "late" }, text.encode("x"))) !== 0;
    result.gone = await os.destroy();
    await c.close();
    return result;
  },
};

scenarios[scenario]()
  .then((r) => console.log(JSON.stringify(r)), (e) => console.log(JSON.stringify({ error: `${e.code ?? ""} ${e.name} ${e.message} ${e.stack}` })))
  .finally(() => process.exit(0));
