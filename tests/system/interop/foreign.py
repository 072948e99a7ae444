"""A worker of another SDK, as `docs/reference/protocol.md` describes it: run as `python foreign.py PORT TOPIC`.

It handles one message at a time, takes it with BLPOP, and so loses it if it dies.
"""

import hashlib
import json
import sys
import time
from typing import Any

import redis
from bencode2 import bdecode, bencode

SPAWN_LIMIT = 10_000

# Compare-and-set in one step: KEYS[1], what is expected, what is new; an empty text is absence.
SWAP = """
local there = redis.call('GET', KEYS[1]) or ''
if there ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
"""


class Defer(BaseException):
    """A handler reached calls without values."""

    def __init__(self, missing):
        self.missing = missing


class Worker:
    def __init__(self, port, topic):
        self.client: Any = redis.Redis(port=port, socket_timeout=None)
        self.topic = topic

    def run(self):
        print("ready", flush=True)  # noqa: T201 - what the test waits for
        while True:
            _, body = self.client.blpop([self.topic])
            tag, root_id, call_hash = bdecode(body)
            assert tag == 2
            self.handle(root_id.decode(), call_hash.decode())

    # The three steps of a worker, as the protocol numbers them.

    def handle(self, root_id, call_hash):
        record = bdecode(self.client.get(f"brrr:call:{call_hash}"))
        args = json.loads(record[b"payload"])
        try:
            value = TASKS[record[b"task_name"].decode()](self, *args)
        except Defer as defer:
            for name, child_args, topic in defer.missing:
                self.schedule(root_id, call_hash, name, child_args, topic)
        else:
            self.complete(call_hash, value)

    def complete(self, call_hash, value):
        self.client.set(f"brrr:value:{call_hash}", json.dumps(value))
        key, woken = f"brrr:pending_returns:{call_hash}", []
        while (pending := self.client.get(key)) is not None:
            for entry in bdecode(pending)[b"returns"]:
                if entry not in woken:
                    woken.append(entry)
                    _, root_id, parent_hash, topic = entry
                    self.put(root_id.decode(), parent_hash.decode(), topic.decode())
            if self.swap(key, pending, b""):
                return

    def schedule(self, root_id, parent_hash, name, args, topic):
        call_hash, payload = encode(name, args)
        self.client.set(f"brrr:call:{call_hash}", bencode({"payload": payload, "task_name": name}))
        key, mine = (
            f"brrr:pending_returns:{call_hash}",
            [1, root_id.encode(), parent_hash.encode(), self.topic.encode()],
        )
        while True:
            record = self.client.get(key)
            pending = {b"returns": [], b"scheduled_at": int(time.time())} if record is None else bdecode(record)
            returns = pending[b"returns"]
            # A parent with another root id shows that the workflow was scheduled again.
            redriven = any(entry[2:] == mine[2:] and entry[1] != mine[1] for entry in returns)
            if mine not in returns:
                pending[b"returns"] = sorted([*returns, mine])
            if self.swap(key, record or b"", bencode(pending)):
                break
        if record is None or redriven:
            self.put(root_id, call_hash, topic)

    def put(self, root_id, call_hash, topic):
        if self.client.incr(f"brrr_count/{root_id}") > SPAWN_LIMIT:
            raise RuntimeError("spawn limit")
        self.client.rpush(topic, bencode([2, root_id, call_hash]))

    def swap(self, key, expected, new):
        return self.client.eval(SWAP, 1, key, expected, new) == 1

    # What handlers use.

    def gather(self, *calls):
        """The values of calls, each (task, arguments, topic or None for this one)."""
        found = [self.client.get(f"brrr:value:{encode(name, args)[0]}") for name, args, _ in calls]
        missing = [(n, a, t or self.topic) for (n, a, t), value in zip(calls, found, strict=True) if value is None]
        if missing:
            raise Defer(missing)
        return [json.loads(value) for value in found]


def encode(name, args):
    """The call hash and the payload of a call."""

    def canonical(value):
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()

    return hashlib.sha256(canonical([name, args])).hexdigest(), canonical(args)


def fib(worker, n):
    return n if n < 2 else sum(worker.gather(("fib", [n - 1], None), ("fib", [n - 2], None)))


def ping(worker, n, here, there):
    return 0 if n == 0 else 1 + worker.gather(("ping", [n - 1, there, here], there))[0]


def fan(worker, width, topic):
    return sum(worker.gather(*(("leaf", [number], topic) for number in range(width))))


def leaf(worker, n):
    return n


TASKS = {"fib": fib, "ping": ping, "fan": fan, "leaf": leaf}

if __name__ == "__main__":
    Worker(int(sys.argv[1]), sys.argv[2]).run()
