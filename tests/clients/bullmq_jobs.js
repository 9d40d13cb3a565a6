// bullmq on a node: node bullmq_jobs.js PORT
// Runs plain, delayed, repeated-on-failure and parent-and-child jobs, and prints as one JSON object
// what became of them.
"use strict";
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");

const connection = { host: "127.0.0.1", port: Number(process.argv[2]) };

async function work(job) {
  if (job.name === "flaky" && job.attemptsMade < 2) throw new Error("not yet");
  if (job.name === "broken") throw new Error("never");
  if (job.name === "sum") {
    return Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0);
  }
  return job.data.number * 2;
}

async function main() {
  const queue = new Queue("jobs", { connection });
  const events = new QueueEvents("jobs", { connection });
  const flows = new FlowProducer({ connection });
  const worker = new Worker("jobs", work, { connection, concurrency: 4 });
  worker.on("error", (error) => process.stderr.write(`${error.stack}\n`));
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady(), worker.waitUntilReady()]);
  const numbers = Array.from({ length: 20 }, (_, number) => ({ name: "double", data: { number } }));
  const plain = await queue.addBulk(numbers);
  const delayed = await queue.add("double", { number: 21 }, { delay: 50 });
  const flaky = await queue.add("flaky", { number: 4 }, { attempts: 3, backoff: 10 });
  const broken = await queue.add("broken", {});
  const urgent = await queue.add("double", { number: 5 }, { priority: 1 });
  const children = [1, 2, 3].map((number) => (
    { name: "double", queueName: "jobs", data: { number } }));
  const flow = await flows.add({ name: "sum", queueName: "jobs", children });
  const finished = (job) => job.waitUntilFinished(events, 20000);
  const result = {
    plain: await Promise.all(plain.map(finished)),
    delayed: await finished(delayed),
    flaky: await finished(flaky),
    broken: await finished(broken).catch((error) => error.message),
    urgent: await finished(urgent),
    flow: await finished(flow.job),
    counts: await queue.getJobCounts("completed", "failed", "waiting", "delayed"),
  };
  await Promise.all([worker.close(), events.close(), flows.close()]);
  await queue.obliterate();
  await queue.close();
  process.stdout.write(JSON.stringify(result));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
