// What applications do with ioredis, one part each: node essentials.js PORT PART
// Ends with an exit code other than 0, and says why, where an answer is not as it must be.
"use strict";
const assert = require("node:assert/strict");
const { once } = require("node:events");
const Redis = require("ioredis");

const port = Number(process.argv[2]);
const clients = [];

function connect(options = {}) {
  const client = new Redis({ host: "127.0.0.1", port, maxRetriesPerRequest: 1, ...options });
  clients.push(client);
  return client;
}

async function blockedClients(client, count) {
  for (let i = 0; i < 1000; i += 1) {
    if ((await client.info("clients")).includes(`blocked_clients:${count}\r\n`)) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail("nobody is blocked");
}

const parts = {
  async pipelines(redis) {
    const pipeline = redis.pipeline();
    for (let i = 0; i < 500; i += 1) pipeline.set(`key:${i}`, i).incr(`key:${i}`);
    const results = await pipeline.exec();
    assert.deepEqual(results[999], [null, 500]);
    const [[error], [, value]] = await redis.pipeline().lpush("key:1", 1).get("key:1").exec();
    assert.match(error.message, /^WRONGTYPE/);
    assert.equal(value, "2");
    const automatic = connect({ enableAutoPipelining: true });
    assert.deepEqual(await Promise.all([1, 2, 3].map(() => automatic.incr("n"))), [1, 2, 3]);
  },

  async transactions(redis) {
    const other = connect();
    assert.deepEqual(await redis.multi().set("a", 1).incr("a").exec(), [[null, "OK"], [null, 2]]);
    await redis.watch("a");
    await other.set("a", 10);
    assert.equal(await redis.multi().incr("a").exec(), null);
    await redis.watch("a");
    assert.deepEqual(await redis.multi().incr("a").exec(), [[null, 11]]);
    await assert.rejects(redis.multi().set("a").exec(), /EXECABORT/);
  },

  async scripts(redis) {
    redis.defineCommand("addAll", {
      numberOfKeys: 2,
      lua: "return {redis.call('incrby', KEYS[1], ARGV[1]), redis.call('incrby', KEYS[2], ARGV[1])}",
    });
    assert.deepEqual(await redis.addAll("a", "b", 5), [5, 5]);
    await redis.script("FLUSH");
    assert.deepEqual(await redis.addAll("a", "b", 5), [10, 10]);
    await assert.rejects(redis.eval("return redis.call('lpush', KEYS[1], 1)", 1, "a"), /WRONGTYPE/);
    const library = "#!lua name=lib\nredis.register_function('twice', function(keys, args) " +
      "return redis.call('incrby', keys[1], 2 * args[1]) end)";
    assert.equal(await redis.function("LOAD", library), "lib");
    assert.equal(await redis.fcall("twice", 1, "c", 21), 42);
  },

  async messages(redis) {
    const listener = connect();
    const shard = connect();
    await listener.subscribe("news");
    await listener.psubscribe("n*");
    await shard.ssubscribe("shard");
    const heard = Promise.all([
      once(listener, "message"), once(listener, "pmessage"), once(shard, "smessage"),
    ]);
    assert.equal(await redis.publish("news", "hello"), 2);
    assert.equal(await redis.spublish("shard", "there"), 1);
    assert.deepEqual(await heard, [["news", "hello"], ["n*", "news", "hello"], ["shard", "there"]]);
    await listener.unsubscribe("news");
    await listener.punsubscribe("n*");
    assert.equal(await listener.ping(), "PONG");
  },

  async streams(redis) {
    const blocked = connect();
    await redis.xgroup("CREATE", "jobs", "workers", "$", "MKSTREAM");
    const read = blocked.xreadgroup(
      "GROUP", "workers", "anna", "BLOCK", 5000, "STREAMS", "jobs", ">");
    await blockedClients(redis, 1);
    const id = await redis.xadd("jobs", "*", "number", "1");
    assert.deepEqual(await read, [["jobs", [[id, ["number", "1"]]]]]);
    assert.deepEqual(await redis.xpending("jobs", "workers"), [1, id, id, [["anna", "1"]]]);
    const claimed = await redis.xautoclaim("jobs", "workers", "bert", 0, "0");
    assert.deepEqual(claimed, ["0-0", [[id, ["number", "1"]]], []]);
    assert.equal(await redis.xack("jobs", "workers", id), 1);
  },

  async queues(redis) {
    const workers = [connect(), connect()];
    const got = [];
    for (let i = 0; i < workers.length; i += 1) {
      got.push(workers[i].blpop("queue", 5));
      await blockedClients(redis, i + 1);
    }
    await redis.rpush("queue", "first", "second");
    assert.deepEqual(await Promise.all(got), [["queue", "first"], ["queue", "second"]]);
    const moved = workers[0].blmove("queue", "done", "LEFT", "RIGHT", 5);
    const lowest = workers[1].bzpopmin("scores", 5);
    await blockedClients(redis, 2);
    await redis.multi().rpush("queue", "third").zadd("scores", 2, "b", 1, "a").exec();
    assert.equal(await moved, "third");
    assert.deepEqual(await lowest, ["scores", "a", "1"]);
  },

  async invalidations(redis) {
    const listener = connect();
    await listener.subscribe("__redis__:invalidate");
    const tracking = ["TRACKING", "ON", "REDIRECT", await connectionId(listener)];
    await redis.client(...tracking);
    await redis.set("a", 1);
    await redis.get("a");
    const told = once(listener, "message");
    await connect().set("a", 2);
    // A list of keys where others see text: ioredis passes it on as it came.
    assert.equal(String((await told)[1]), "a");
  },

  async scanning(redis) {
    await redis.mset(...Array.from({ length: 2000 }, (_, i) => [`key:${i}`, i]).flat());
    const met = new Set();
    for await (const keys of redis.scanStream({ match: "key:*", count: 100 })) {
      keys.forEach((key) => met.add(key));
    }
    assert.equal(met.size, 2000);
  },
};

// A subscriber of RESP2 may not ask for its id: another client finds it in the list.
async function connectionId(listener) {
  const local = `addr=127.0.0.1:${listener.stream.localPort} `;
  const line = (await connect().client("LIST")).split("\n").find((one) => one.includes(local));
  return /id=(\d+)/.exec(line)[1];
}

async function main() {
  const redis = connect();
  await redis.flushall();
  await redis.function("FLUSH");
  await parts[process.argv[3]](redis);
  clients.forEach((client) => client.disconnect());
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
