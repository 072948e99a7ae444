"""Workers that behave like those of other SDKs, as `docs/reference/protocol.md` describes them.

They know only the records of the protocol: no steps, no failures, and no extension of leases. They mark a call before
they put its message, register on each missing child, and write values without a comparison. Some take messages without
a lease, so messages that they hold are lost when they die.

In a history with such workers, these properties hold:

- Every call has the right outcome. If a fault struck such a worker, the message that it held or was about to put may be
  lost. Then the roots are scheduled again with `redrive=True` before this is checked.
- I1 for the marks of brrr's own workers, and I3 for their values. Other workers write the same values, because handlers
  are deterministic.
- I2 until a fault strikes such a worker, if it leases its messages. Otherwise I2 does not hold at all.

The history has only calls that every SDK can run: no failures, waits, events or cancellations.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Final

from brrr_core.backend import Cache, Delivery, Key, Queue, Store, Swap
from brrr_core.errors import BackendUnavailableError
from brrr_core.wire import (
    Call,
    PendingReturn,
    PendingReturns,
    ScheduleMessage,
    count_key,
    decode_call,
    decode_message,
    decode_pending,
    encode_call,
    encode_message,
    encode_pending,
)
from brrr_simulation.graphs import Graph

__all__ = ["FOREIGN", "SHARED_KINDS", "ForeignWorker"]

FOREIGN: Final = "other SDK"
"""The prefix of the names of their processes."""

SHARED_KINDS: Final = ("plain", "flaky", "again", "long", "send")
"""The kinds of calls that every SDK can run."""

WAIT: Final = 20.0
"""Seconds that a receive waits."""

PAUSE: Final = 1.0
"""Virtual seconds after an operation that failed."""


class ForeignWorker:
    """One worker of another SDK.

    Args:
        topic: Its topic.
        graph: The call graph.
        encode: Returns the call of the node with a number.
        leases: Whether it acknowledges a message only after it has handled it.
        clock: Returns the unix time.
    """

    def __init__(
        self,
        topic: str,
        graph: Graph,
        encode: Callable[[int], Call],
        *,
        leases: bool,
        clock: Callable[[], float],
    ) -> None:
        self._topic = topic
        self._graph = graph
        self._encode = encode
        self._leases = leases
        self._clock = clock

    async def work(self, queue: Queue, store: Store, cache: Cache) -> None:
        """Handle messages until the process dies."""
        while True:
            try:
                for delivery in await queue.receive(self._topic, limit=1, wait=WAIT):
                    if not self._leases:
                        await queue.ack([delivery])
                    await self._handle(delivery, queue, store, cache)
                    if self._leases:
                        await queue.ack([delivery])
            except BackendUnavailableError:
                await asyncio.sleep(PAUSE)  # the message comes back when its lease expires, or is lost

    async def _handle(self, delivery: Delivery, queue: Queue, store: Store, cache: Cache) -> None:
        message = decode_message(delivery.body)
        me = PendingReturn(message.root_id, message.call_hash, delivery.topic)
        value, record = await store.read([Key("value", message.call_hash), Key("call", message.call_hash)])
        if value is None:
            if record is None:
                raise AssertionError(f"a message names the call {message.call_hash}, which has no record")
            number = int(json.loads(decode_call(message.call_hash, record).payload)[0])
            node = self._graph.nodes[number]
            calls = [self._encode(child) for child in node.children]
            missing = [call for call, value in await self._values(calls, store) if value is None]
            while missing:
                for call in missing:
                    await self._schedule(call, me, queue, store, cache)
                left = [call for call, value in await self._values(missing, store) if value is None]
                if len(left) == len(missing):
                    return
                missing = left
            parts = [int(value or b"") for _, value in await self._values(calls, store)]
            await store.write([(Key("value", message.call_hash), b"%d" % (1 + number + sum(parts)))])
        await self._wake(message.call_hash, queue, store, cache)

    async def _values(self, calls: Sequence[Call], store: Store) -> list[tuple[Call, bytes | None]]:
        found = await store.read([Key("value", call.call_hash) for call in calls]) if calls else []
        return list(zip(calls, found, strict=True))

    async def _schedule(self, call: Call, me: PendingReturn, queue: Queue, store: Store, cache: Cache) -> None:
        """Mark a call and register on it. Then put it, if it had no mark or if its caller was scheduled again."""
        key = Key("pending_returns", call.call_hash)
        while True:
            (record,) = await store.read([key])
            pending = PendingReturns() if record is None else decode_pending(record)
            again = any(
                entry.call_hash == me.call_hash and entry.topic == me.topic and entry.root_id != me.root_id
                for entry in pending.returns
            )
            puts = pending.scheduled_at is None or again
            marked = int(self._clock()) if puts else pending.scheduled_at
            new = encode_pending(PendingReturns(tuple(sorted({*pending.returns, me})), marked))
            if new == record or (await store.swap([Swap(key, record, new)]))[0]:
                break
        if puts:
            await store.write([(Key("call", call.call_hash), encode_call(call))])
            await self._put(self._topic_of(call), ScheduleMessage(me.root_id, call.call_hash), queue, cache)

    def _topic_of(self, call: Call) -> str:
        return self._graph.nodes[int(json.loads(call.payload)[0])].topic

    async def _wake(self, call_hash: str, queue: Queue, store: Store, cache: Cache) -> None:
        key = Key("pending_returns", call_hash)
        woken = set[PendingReturn]()
        while True:
            (record,) = await store.read([key])
            if record is None:
                return
            for entry in decode_pending(record).returns:
                if entry not in woken:
                    woken.add(entry)
                    await self._put(entry.topic, ScheduleMessage(entry.root_id, entry.call_hash), queue, cache)
            if (await store.swap([Swap(key, record, None)]))[0]:
                return

    async def _put(self, topic: str, message: ScheduleMessage, queue: Queue, cache: Cache) -> None:
        await cache.increment({count_key(message.root_id): 1})
        await queue.put(topic, [encode_message(message)])
