// An ioredis Cluster that is told what to do by JSON lines on stdin, and answers with one each:
//   {"do": "write" | "read", "keys": [...]}   ->   {"times": [...]} | {"values": [...]}, "errors": N
// Keys are written as their own values: the first hundred one by one, the others in pipelines. A
// time is when its key was first sent, in milliseconds since the epoch.
"use strict";
const readline = require("readline");
const Redis = require("ioredis");

const port = Number(process.argv[2]);
const cluster = new Redis.Cluster([{ host: "127.0.0.1", port }]);
const BATCH = 100;
const DEADLINE_MS = 20000;
let errors = 0;
cluster.on("error", () => {});

async function insist(action) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    try {
      return await action();
    } catch (error) {
      errors += 1;
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

// ioredis sends a pipeline to one node, so its keys must share a slot's node: group them by slot.
function batches(keys) {
  const slotOf = require("cluster-key-slot");
  const bySlot = new Map();
  for (const key of keys) {
    const slot = slotOf(key);
    if (!bySlot.has(slot)) bySlot.set(slot, []);
    bySlot.get(slot).push(key);
  }
  const found = [];
  for (const group of bySlot.values()) {
    for (let i = 0; i < group.length; i += BATCH) found.push(group.slice(i, i + BATCH));
  }
  return found;
}

async function pipelined(keys, command) {
  const replies = new Map();
  await Promise.all(
    batches(keys).map((batch) =>
      insist(async () => {
        const pipeline = cluster.pipeline();
        for (const key of batch) command(pipeline, key);
        const results = await pipeline.exec();
        for (const [error] of results) if (error) throw error;
        results.forEach(([, value], i) => replies.set(batch[i], value));
      })
    )
  );
  return replies;
}

async function write(keys) {
  const times = new Map();
  for (const key of keys.slice(0, BATCH)) {
    times.set(key, Date.now());
    await insist(() => cluster.set(key, key));
  }
  for (let i = BATCH; i < keys.length; i += 10 * BATCH) {
    const part = keys.slice(i, i + 10 * BATCH);
    for (const key of part) times.set(key, Date.now());
    await pipelined(part, (pipeline, key) => pipeline.set(key, key));
  }
  return { times: keys.map((key) => times.get(key)) };
}

async function read(keys) {
  const values = await pipelined(keys.slice(BATCH), (pipeline, key) => pipeline.get(key));
  for (const key of keys.slice(0, BATCH)) {
    values.set(key, await insist(() => cluster.get(key)));
  }
  return { values: keys.map((key) => values.get(key)) };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    const answer = await (request.do === "write" ? write : read)(request.keys);
    process.stdout.write(JSON.stringify({ ...answer, errors }) + "\n");
  }
  cluster.disconnect();
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
