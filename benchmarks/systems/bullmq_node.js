// BullMQ on Node, over ioredis: lists, sorted sets and scripts; at least once, with locks.
//
// As many jobs at a time as are asked for; what has ended is removed. One process of a measurement,
// like benchmarks/systems/run.py: `node bullmq_node.js REQUEST`.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { Queue, Worker } = require('bullmq');
const IORedis = require('ioredis');

const WARM_JOBS = 20;
const WARM_LIMIT_S = 60;
const BULK_JOBS = 500;
const IN_TURN = 50;
const SLEEP_MS = 5;
const PAYLOAD_BYTES = 200;
const TICKS_PER_S = 100;

const request = JSON.parse(process.argv[2]);
const port = Number(new URL(request.url).port);
const warm = path.join(path.dirname(request.out), 'warm');

const nanoseconds = () => Number(process.hrtime.bigint());
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const connect = () => new IORedis({ host: '127.0.0.1', port, maxRetriesPerRequest: null });

function payload(number, sentNs = 0) {
  const made = { id: number, sent_ns: sentNs, user: 'ada@example.org', body: '' };
  made.body = 'x'.repeat(PAYLOAD_BYTES - JSON.stringify(made).length);
  return made;
}

function mark() {
  const own = process.cpuUsage();
  const server = fs.readFileSync(`/proc/${request.server_pid}/stat`, 'utf8').split(') ').pop().split(' ');
  const all = fs.readFileSync('/proc/stat', 'utf8').split('\n')[0].trim().split(/\s+/).slice(1, 9);
  const idle = Number(all[3]) + Number(all[4]);
  return {
    at: nanoseconds() / 1e9,
    cpu: (own.user + own.system) / 1e6,
    server_cpu: (Number(server[11]) + Number(server[12])) / TICKS_PER_S,
    busy: (all.reduce((sum, word) => sum + Number(word), 0) - idle) / TICKS_PER_S,
  };
}

function since(first) {
  const last = mark();
  return Object.fromEntries(Object.keys(last).map((name) => [name, last[name] - first[name]]));
}

function leave(result) {
  fs.writeFileSync(`${request.out}.partial`, JSON.stringify(result));
  fs.renameSync(`${request.out}.partial`, request.out);
}

// Handlers, counted where they end.

let ended = 0;
let first = null;
const tried = new Set();
const latencies = [];
let warmed = 0;

function completed() {
  ended += 1;
  if (ended === 1 && first === null) first = mark();
  if (ended === request.jobs) leave({ ...since(first), failed: tried.size, latencies });
}

const handlers = {
  noop: async (job) => { void job.id; completed(); },
  sleep: async () => { await pause(SLEEP_MS); completed(); },
  stamp: async (job) => {
    const late = nanoseconds() - job.sent_ns;
    if (job.id >= 0) { latencies.push(late); completed(); return; }
    warmed += 1;
    if (warmed === WARM_JOBS) fs.writeFileSync(warm, '');
  },
  fail_once: async (job) => {
    if (tried.has(job.id)) { completed(); return; }
    if (first === null) first = mark();
    tried.add(job.id);
    throw new Error('first attempt');
  },
};

function work() {
  const handler = handlers[request.handler];
  const options = { connection: connect(), concurrency: request.at_once };
  const worker = new Worker('bench', (job) => handler(job.data), options);
  worker.on('error', (error) => console.error(error));
}

// Producers.

async function fill(putMany) {
  for (let start = 0; start < request.jobs; start += BULK_JOBS) {
    const size = Math.min(BULK_JOBS, request.jobs - start);
    await putMany(Array.from({ length: size }, (_, at) => payload(start + at)));
  }
  return {};
}

async function enqueue(put, putMany) {
  const jobs = Array.from({ length: BULK_JOBS }, (_, at) => payload(10000 + at));
  const turn = request.bulk ? jobs : jobs.slice(0, IN_TURN);
  const once = async () => {
    if (request.bulk) { await putMany(turn); return; }
    for (const each of turn) await put(each);
  };
  await once();
  const began = mark();
  let done = 0;
  while (nanoseconds() / 1e9 - began.at < request.seconds) {
    await once();
    done += turn.length;
  }
  return { jobs: done, ...since(began) };
}

async function pace(put) {
  for (let number = 1; number <= WARM_JOBS; number += 1) await put(payload(-number, nanoseconds()));
  const limit = nanoseconds() + WARM_LIMIT_S * 1e9;
  while (!fs.existsSync(warm)) {
    if (nanoseconds() > limit) throw new Error('the worker did not take the first jobs');
    await pause(50);
  }
  const began = nanoseconds();
  const underWay = [];
  let late = 0;
  for (let number = 0; number < request.jobs; number += 1) {
    const due = began + (number * 1e9) / request.rate;
    const left = (due - nanoseconds()) / 1e6;
    if (left > 0) await pause(left);
    late = Math.max(late, nanoseconds() - due);
    underWay.push(put(payload(number, nanoseconds())));
  }
  await Promise.all(underWay);
  return { late_ms: late / 1e6 };
}

async function produce() {
  const defaultJobOptions = { removeOnComplete: true, removeOnFail: true };
  if (request.handler === 'fail_once') defaultJobOptions.attempts = 3;
  const queue = new Queue('bench', { connection: connect(), defaultJobOptions });
  await queue.waitUntilReady();
  const put = (job) => queue.add('job', job);
  const putMany = (jobs) => queue.addBulk(jobs.map((data) => ({ name: 'job', data })));
  const roles = {
    fill: () => fill(putMany),
    enqueue: () => enqueue(put, putMany),
    pace: () => pace(put),
  };
  const result = await roles[request.role]();
  await queue.close();
  leave(result);
  process.exit(0);
}

if (request.role === 'work') work();
else produce().catch((error) => { console.error(error); process.exit(1); });
