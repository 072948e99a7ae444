// A worker of another SDK, as docs/reference/protocol.md describes it: run as `node worker.js PORT TOPIC`.
// It handles one message at a time, takes it with BLPOP, and so loses it if it dies.

import bencode from "bencode";
import { createClient, RESP_TYPES } from "redis";
import { canonical, encode } from "./calls.js";

const SPAWN_LIMIT = 10_000;

// Compare-and-set in one step: KEYS[1], what is expected, what is new; an empty text is absence.
const SWAP = `
local there = redis.call('GET', KEYS[1]) or ''
if there ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
`;

const [port, topic] = process.argv.slice(2);
const plain = await createClient({ url: `redis://127.0.0.1:${port}`, RESP: 2 }).connect();
const client = plain.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });

const text = bytes => Buffer.from(bytes).toString("utf8");
const bencoded = value => Buffer.from(bencode.encode(value));

class Defer extends Error {
  constructor(missing) {
    super("a value is missing");
    this.missing = missing;
  }
}

// -- calls ---------------------------------------------------------------------------------------------------------

async function gather(calls) {
  const found = await Promise.all(calls.map(([name, args]) => client.get(`brrr:value:${encode(name, args).hash}`)));
  const missing = calls.filter((_, place) => found[place] === null);
  if (missing.length > 0) throw new Defer(missing);
  return found.map(value => JSON.parse(text(value)));
}

const sum = numbers => numbers.reduce((left, right) => left + right, 0);

const tasks = {
  fib: async n => (n < 2 ? n : sum(await gather([["fib", [n - 1], topic], ["fib", [n - 2], topic]]))),
  ping: async (n, here, there) => (n === 0 ? 0 : 1 + (await gather([["ping", [n - 1, there, here], there]]))[0]),
  fan: async (width, where) => sum(await gather(Array.from({ length: width }, (_, n) => ["leaf", [n], where]))),
  leaf: async n => n,
};

// -- a worker's three steps, as the protocol numbers them -------------------------------------------------------------

async function handle(rootId, callHash) {
  const record = bencode.decode(await client.get(`brrr:call:${callHash}`));
  try {
    const value = await tasks[text(record.task_name)](...JSON.parse(text(record.payload)));
    await complete(callHash, value);
  } catch (error) {
    if (!(error instanceof Defer)) throw error;
    for (const [name, args, where] of error.missing) await schedule(rootId, callHash, name, args, where);
  }
}

async function complete(callHash, value) {
  await client.set(`brrr:value:${callHash}`, canonical(value));
  const key = `brrr:pending_returns:${callHash}`;
  const woken = new Set();
  for (;;) {
    const pending = await client.get(key);
    if (pending === null) return;
    for (const entry of bencode.decode(pending).returns) {
      const [, rootId, parentHash, where] = entry.map(field => (typeof field === "number" ? field : text(field)));
      const name = JSON.stringify([rootId, parentHash, where]);
      if (!woken.has(name)) {
        woken.add(name);
        await put(rootId, parentHash, where);
      }
    }
    if (await swap(key, pending, Buffer.alloc(0))) return;
  }
}

async function schedule(rootId, parentHash, name, args, where) {
  const { hash, payload } = encode(name, args);
  await client.set(`brrr:call:${hash}`, bencoded({ payload, task_name: name }));
  const key = `brrr:pending_returns:${hash}`;
  let record;
  let redriven;
  let changed;
  do {
    record = await client.get(key);
    const pending = record === null ? { returns: [], scheduled_at: Math.floor(Date.now() / 1000) } : bencode.decode(record);
    const returns = pending.returns.map(([tag, ...fields]) => [tag, ...fields.map(text)]);
    // A parent that waits for this child under another root id belongs to a newer schedule of the workflow.
    redriven = returns.some(([, root, parent, at]) => parent === parentHash && at === topic && root !== rootId);
    if (!returns.some(([, root, parent, at]) => parent === parentHash && at === topic && root === rootId)) {
      returns.push([1, rootId, parentHash, topic]);
    }
    returns.sort((left, right) => Buffer.compare(sortKey(left), sortKey(right)));
    changed = bencoded({ ...pending, returns });
  } while (!(await swap(key, record ?? Buffer.alloc(0), changed)));
  if (record === null || redriven) await put(rootId, hash, where);
}

const sortKey = ([, rootId, parentHash, where]) => Buffer.from([rootId, parentHash, where].join("\0"));

async function put(rootId, callHash, where) {
  if ((await client.incr(`brrr_count/${rootId}`)) > SPAWN_LIMIT) throw new Error("spawn limit");
  await client.rPush(where, bencoded([2, rootId, callHash]));
}

async function swap(key, expected, changed) {
  return (await client.eval(SWAP, { keys: [key], arguments: [expected, changed] })) === 1;
}

console.log("ready");
for (;;) {
  const { element } = await client.blPop(topic, 0);
  const [tag, rootId, callHash] = bencode.decode(element);
  if (tag !== 2) throw new Error(`a message with the tag ${tag}`);
  await handle(text(rootId), text(callHash));
}
