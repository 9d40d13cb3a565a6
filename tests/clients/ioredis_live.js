// ioredis Cluster clients at work on keys of their own: the same as tests/evidence/live_client.py,
// for several clients in one process: node ioredis_live.js PORT NAME,NAME,... TAGS PAUSE_MS
// Prints `ready`, goes on until its standard input ends, and then one JSON object per client.
"use strict";
const Redis = require("ioredis");

const [port, names, tagCount, pauseMs] = process.argv.slice(2);
let stopped = false;

const pick = (list) => list[Math.floor(Math.random() * list.length)];
const pause = () => new Promise((resolve) => setTimeout(resolve, Number(pauseMs)));
const pairOf = (tag) => [`{${tag}}:a`, `{${tag}}:b`];
const kindOf = (error) =>
  `${error.name}: ${error.message}`.replace(/[\d.:]*\d/g, "N").slice(0, 100);

class Ledger {
  constructor(name) {
    this.name = name;
    this.requests = [];
    this.errors = {};
    this.lost = [];
    this.stale = [];
    this.keys = {};
    this.count = 0;
  }

  number(...keys) {
    this.count += 1;
    for (const key of keys) {
      this.keys[key] = this.keys[key] || [0, 0];
      this.keys[key][1] = this.count;
    }
    return this.count;
  }

  acknowledged(number, ...keys) {
    for (const key of keys) this.keys[key][0] = number;
  }

  found(key, value) {
    const [acknowledged, sent] = this.keys[key];
    const promised = `${key}: ${acknowledged} was acknowledged,`;
    const cut = value === null ? -1 : value.lastIndexOf(":");
    const number = cut < 0 ? NaN : Number(value.slice(cut + 1));
    if (value === null) this.lost.push(`${promised} nothing is there`);
    else if (value.slice(0, cut) !== this.name || !(number <= sent))
      this.lost.push(`${promised} ${value} is there`);
    else if (number < acknowledged) this.stale.push(`${promised} ${number} is there`);
    else this.keys[key][0] = number;
  }

  // What a request gives; undefined if the application was shown an error.
  async timed(action) {
    const began = Date.now();
    const since = performance.now();
    try {
      return await action();
    } catch (error) {
      this.errors[kindOf(error)] = (this.errors[kindOf(error)] || 0) + 1;
      return undefined;
    } finally {
      this.requests.push([began, Math.round(100 * (performance.now() - since)) / 100]);
    }
  }

  told() {
    const { requests, errors, lost, stale, keys } = this;
    return { requests, errors, lost, stale, keys };
  }
}

class Application {
  constructor(name) {
    this.cluster = new Redis.Cluster([{ host: "127.0.0.1", port: Number(port) }]);
    this.ledger = new Ledger(name);
    this.tags = Array.from({ length: Number(tagCount) }, (_, i) => `${name}:${i}`);
  }

  async prepare() {
    for (const tag of this.tags) await this.writePair(tag);
  }

  async run() {
    while (!stopped) {
      await pause();
      const one = Math.random() < 0.5;
      await (one ? this.writeOne(pick(this.tags)) : this.writePair(pick(this.tags)));
      await (one ? this.read(pick(pairOf(pick(this.tags)))) : this.readPair(pick(this.tags)));
    }
    this.cluster.disconnect();
  }

  async writeOne(tag) {
    const key = pick(pairOf(tag));
    const number = this.ledger.number(key);
    const value = `${this.ledger.name}:${number}`;
    if (await this.ledger.timed(() => this.cluster.set(key, value))) {
      this.ledger.acknowledged(number, key);
      await this.read(key);
    }
  }

  async writePair(tag) {
    const [a, b] = pairOf(tag);
    const number = this.ledger.number(a, b);
    const value = `${this.ledger.name}:${number}`;
    if (await this.ledger.timed(() => this.cluster.mset(a, value, b, value))) {
      this.ledger.acknowledged(number, a, b);
      await this.readPair(tag);
    }
  }

  async read(key) {
    const found = await this.ledger.timed(() => this.cluster.get(key));
    if (found !== undefined) this.ledger.found(key, found);
  }

  async readPair(tag) {
    const keys = pairOf(tag);
    const found = await this.ledger.timed(() => this.cluster.mget(...keys));
    if (found === undefined) return;
    keys.forEach((key, i) => this.ledger.found(key, found[i]));
  }
}

async function main() {
  const applications = names.split(",").map((name) => new Application(name));
  await Promise.all(applications.map((application) => application.prepare()));
  process.stdout.write("ready\n");
  process.stdin.on("end", () => (stopped = true)).resume();
  await Promise.all(applications.map((application) => application.run()));
  for (const { ledger } of applications) {
    process.stdout.write(JSON.stringify(ledger.told()) + "\n");
  }
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
