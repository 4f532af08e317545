// One scenario per run over an official JavaScript client; its result as one JSON line.
//   node scenario.cjs nats|@nats-io/transport-node SCENARIO URL [ARGUMENT...]
"use strict";
const [library, scenario, url, ...args] = process.argv.slice(2);
const nats = require(library);
const text = new TextEncoder(), plain = new TextDecoder();
const dial = (options = {}) => nats.connect({ servers: url, timeout: 5000, ...options });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

const scenarios = {
  async pubsub() {
    const c = await dial({ name: "js" });
    const s = c.subscribe("greet.*", { max: 1 });
    const h = nats.headers();
    h.append("Key", "one");
    h.append("Key", "two");
    c.publish("greet.joe", text.encode("hello"), { headers: h });
    const got = {};
    for await (const m of s) {
      Object.assign(got, { subject: m.subject, data: plain.decode(m.data), values: m.headers.values("Key") });
    }
    got.max_payload = c.info.max_payload;
    got.version = c.info.version;
    await c.close();
    return got;
  },
  async request() {
    const c = await dial(), d = await dial();
    c.subscribe("add", { queue: "workers", callback: (_, m) => m.respond(text.encode(plain.decode(m.data) + "!")) });
    await c.flush();
    const answers = [];
    for (let i = 0; i < 100; i++) {
      answers.push(plain.decode((await d.request("add", text.encode(String(i)), { timeout: 5000 })).data));
    }
    const many = await Promise.all(Array.from({ length: 200 }, (_, i) => d.request("add", text.encode(String(i)), { timeout: 5000 })));
    await c.close();
    await d.close();
    return { answers, many: many.length };
  },
  async noresponders() {
    const c = await dial();
    let name = "none";
    try {
      await c.request("nobody", nats.Empty, { timeout: 5000 });
    } catch (e) {
      name = `${e.code ?? ""} ${e.name} ${e.message}`;
    }
    await c.close();
    return { name };
  },
  async queue() {
    const counts = [0, 0, 0], clients = [];
    for (let i = 0; i < 3; i++) {
      const c = await dial();
      c.subscribe("work", { queue: "g", callback: () => counts[i]++ });
      await c.flush();
      clients.push(c);
    }
    const p = await dial();
    for (let i = 0; i < 600; i++) p.publish("work");
    await p.flush();
    for (const c of clients) await c.flush();
    await pause(50);
    for (const c of [...clients, p]) await c.close();
    return { counts };
  },
  async bulk() {
    const count = 20000, c = await dial(), p = await dial();
    let next = 0, wrong = 0, finish;
    const done = new Promise((r) => (finish = r));
    c.subscribe("bulk.>", { callback: (_, m) => {
      if (plain.decode(m.data) !== String(next)) wrong++;
      if (++next === count) finish();
    } });
    await c.flush();
    for (let i = 0; i < count; i++) p.publish(`bulk.${i % 7}`, text.encode(String(i)));
    await p.flush();
    await done;
    await c.close();
    await p.close();
    return { count: next, wrong };
  },
  async drain() {
    const c = await dial(), p = await dial();
    let count = 0;
    c.subscribe("d", { callback: () => count++ });
    await c.flush();
    for (let i = 0; i < 500; i++) p.publish("d");
    await p.flush();
    await c.drain();
    await p.close();
    return { count, closed: c.isClosed() };
  },
  async user() {
    const c = await dial({ user: args[0], pass: args[1], reconnect: false });
    await c.flush();
    await c.close();
    return { connected: true };
  },
  async token() {
    const c = await dial({ token: args[0], reconnect: false });
    await c.flush();
    await c.close();
    return { connected: true };
  },
  async nkey() {
    const c = await dial({ authenticator: nats.nkeyAuthenticator(text.encode(args[0])), reconnect: false });
    await c.flush();
    await c.close();
    return { connected: true };
  },
  async denied() {
    const c = await dial({ user: "u", pass: "p" });
    const texts = [];
    (async () => {
      for await (const s of c.status()) texts.push(JSON.stringify(s) + " " + (s.error?.message ?? ""));
    })();
    c.publish("no");
    c.subscribe("no", { callback: () => {} });
    await c.flush();
    await pause(100);
    const open = !c.isClosed();
    await c.close();
    return { texts, open };
  },
  async tls() {
    const c = await dial({ tls: { caFile: args[0], handshakeFirst: args[1] === "first" }, reconnect: false });
    await c.flush();
    await c.close();
    return { connected: true };
  },
  async reconnect() {
    const c = await dial({ reconnectTimeWait: 20, reconnectJitter: 0, maxReconnectAttempts: -1 });
    let arrived;
    const delivered = new Promise((r) => (arrived = r));
    c.subscribe("again", { callback: () => arrived(true) });
    await c.flush();
    const back = (async () => {
      for await (const s of c.status()) if (s.type === "reconnect") return;
    })();
    console.log("ready");
    await back;
    c.publish("again");
    const result = { delivered: await delivered };
    await c.close();
    return result;
  },
  async lameduck() {
    const c = await dial();
    const told = (async () => {
      for await (const s of c.status()) if (/ldm/i.test(s.type)) return;
    })();
    await c.flush();
    console.log("ready");
    await told;
    await c.close();
    return { told: true };
  },
};

scenarios[scenario]()
  .then((r) => console.log(JSON.stringify(r)), (e) => console.log(JSON.stringify({ error: `${e.code ?? ""} ${e.name} ${e.message}` })))
  .finally(() => process.exit(0));
