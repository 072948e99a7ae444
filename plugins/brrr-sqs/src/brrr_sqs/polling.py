"""How receivers wait: all those of one topic and process together, by one long poll after the other.

SQS hides a message from when it answers a poll, and the answer may be on its way for as long as the poll waits. A
lease is therefore counted here from before the poll was sent, and a poll waits for a third of a lease at most. What an
answer holds for a receiver that is gone goes to the next one, or is given back.
"""

import asyncio
import time
from asyncio import CancelledError, Future, Task
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from brrr_aws.backoff import Backoff
from brrr_aws.client import AwsClient
from brrr_aws.errors import closed_error
from brrr_core.backend import Delivery
from brrr_core.errors import BackendError
from brrr_sqs.messages import RECEIVED, Received, received
from brrr_sqs.names import names_of
from brrr_sqs.owned import outcome
from brrr_sqs.queues import Queues
from brrr_sqs.settling import Settling

__all__ = ["LONGEST_POLL", "Poller", "Pollers"]

LONGEST_POLL: Final = 20
"""Seconds that one request of SQS waits at most."""

MOST: Final = 10
"""Messages that one request gives at most."""

WIDEST: Final = 9
"""Polls that follow a full one side by side at most."""

SHORT: Final = 0.25
"""Seconds between polls that do not wait, at most: SQS waits whole seconds only."""

SLACK: Final = 0.1
"""Seconds by which a poll may end after its receiver's wait: a wait of 20 s is one poll of 20 s, and not of 19."""


class _Attempts(Backoff):
    """The waits between attempts of one poll, which say when the last one began: its leases are counted from then."""

    def __init__(self, waits: Backoff) -> None:
        self._waits = waits
        self.begun = asyncio.get_running_loop().time()

    async def pause(self) -> bool:
        again = await self._waits.pause()
        self.begun = asyncio.get_running_loop().time()
        return again


@dataclass(slots=True, eq=False)
class _Waiter:
    limit: int
    deadline: float
    result: "Future[list[Delivery]]" = field(repr=False)


class Poller:
    """The receivers of one topic.

    Args:
        topic: The topic.
        queues: Asks SQS.
        polls: The client for polls, whose answers take long.
        settling: Gives back what nobody takes.
        prefix: What the queues' names begin with.
        lease: Seconds of a lease.
    """

    def __init__(
        self, topic: str, queues: Queues, polls: AwsClient, settling: Settling, *, prefix: str, lease: float
    ) -> None:
        self._topic = topic
        self._name = names_of(prefix, topic).main
        self._queues = queues
        self._polls = polls
        self._settling = settling
        self._lease = lease
        self._longest = min(LONGEST_POLL, int(lease / 3))
        self._pace = min(SHORT, lease / 10)
        self._width = 1
        self._waiting: deque[_Waiter] = deque()
        self._task: Task[None] | None = None
        self._ends = 0.0
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> bool:
        """Whether nobody waits, and no poll is under way."""
        return not self._waiting and self._task is None

    async def look(self, limit: int) -> list[Delivery]:
        """What is there now."""
        task = self._queues.owned.start(self._fetch(limit, 0), "brrr looks at a topic")
        try:
            return await outcome(task)
        except CancelledError:
            task.add_done_callback(self._hand_on_result)
            raise

    async def wait(self, limit: int, wait: float) -> list[Delivery]:
        """What is there within `wait` seconds."""
        now = self._loop.time()
        waiter = _Waiter(limit, now + wait, self._loop.create_future())
        self._waiting.append(waiter)
        timer = None if wait == float("inf") else self._loop.call_at(waiter.deadline, self._give_up, waiter)
        self._start()
        try:
            return await waiter.result
        except CancelledError:
            if waiter.result.done() and not waiter.result.cancelled() and waiter.result.exception() is None:
                self.hand_on(waiter.result.result())
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def hand_on(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries to those who wait, and back to the queue what is left over."""
        rest = list(deliveries)
        while rest and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.result.done():
                waiter.result.set_result(rest[: waiter.limit])
                rest = rest[waiter.limit :]
        self._settling.give_back(rest)

    def close(self) -> None:
        """End every wait with `BackendClosedError`, and the poll that is under way."""
        self._fail(closed_error())
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        if self._task is None:
            self._task = self._queues.owned.start(self._run(), "brrr waits for a topic")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: "Task[None]") -> None:
        self._task = None
        if task.cancelled():
            self._fail(closed_error())
        elif self._waiting:
            self._start()  # somebody came in the turn in which it ended

    async def _run(self) -> None:
        """Poll as long as somebody waits."""
        while self._waiting:
            now = self._loop.time()
            left = max(each.deadline for each in self._waiting) - now
            seconds = int(min(self._longest, left + SLACK))
            self._ends = now + seconds
            try:
                found = await self._fetch(sum(each.limit for each in self._waiting), seconds)
            except BackendError as error:
                self._fail(error)
                return
            self._ends = 0.0
            self.hand_on(found)
            if found:
                continue
            now = self._loop.time()
            for waiter in [each for each in self._waiting if each.deadline <= now]:
                self._give_up(waiter)
            if not seconds and self._waiting:
                await asyncio.sleep(min(self._pace, min(each.deadline for each in self._waiting) - now))

    def _give_up(self, waiter: _Waiter) -> None:
        """A receiver's wait is over. It still waits for a poll that ends as late as that."""
        if self._task is not None and self._ends and self._ends <= waiter.deadline + 2 * SLACK:
            return
        if not waiter.result.done():
            waiter.result.set_result([])
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def _fail(self, error: BackendError) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.result.done():
                waiter.result.set_exception(error)

    def _hand_on_result(self, task: "Task[list[Delivery]]") -> None:
        if not task.cancelled() and task.exception() is None:
            self.hand_on(task.result())

    async def _fetch(self, wanted: int, seconds: int) -> list[Delivery]:
        """One poll, and where it gives as many as it can, more of them that do not wait."""
        found = await self._poll(min(wanted, MOST), seconds)
        full = len(found) == MOST
        while full and len(found) < wanted:
            asked = min(self._width, -(-(wanted - len(found)) // MOST))
            sizes = [min(MOST, wanted - len(found) - MOST * place) for place in range(asked)]
            tasks = [self._queues.owned.start(self._poll(each, 0), "brrr takes more of a topic") for each in sizes]
            try:
                await asyncio.wait(tasks)
            except CancelledError:
                for task in tasks:
                    task.cancel()
                raise
            # One that failed is not told: what the others gave is worth more, and the next poll tells.
            more = [task.result() for task in tasks if not task.cancelled() and task.exception() is None]
            for each in more:
                found += each
            full = len(more) == asked and all(len(each) == size for each, size in zip(more, sizes, strict=True))
            self._width = min(WIDEST, 2 * self._width) if full else max(1, self._width // 2)
        return self._ready(found)

    async def _poll(self, limit: int, seconds: int) -> list[Received]:
        attempts = _Attempts(self._polls.backoff())
        request = {
            **RECEIVED,
            "MaxNumberOfMessages": limit,
            "WaitTimeSeconds": seconds,
            "VisibilityTimeout": int(self._lease),
        }
        answer = await self._queues.ask(self._name, "ReceiveMessage", request, client=self._polls, waits=attempts)
        found = (answer or {}).get("Messages") or ()
        return [received(self._topic, each, begun=attempts.begun, lease=self._lease) for each in found]

    def _ready(self, found: Sequence[Received]) -> list[Delivery]:
        """What may be handed out: whose lease has not run out on the way, and which is due."""
        now = time.time()
        held = [each for each in found if each.receipt.held()]
        self._settling.put_off([each for each in held if each.due > now])
        return [each.delivery for each in held if each.due <= now]


class Pollers:
    """The pollers of one backend, a topic each."""

    def __init__(self, queues: Queues, polls: AwsClient, settling: Settling, *, prefix: str, lease: float) -> None:
        self._queues = queues
        self._polls = polls
        self._settling = settling
        self._prefix = prefix
        self._lease = lease
        self._pollers: dict[str, Poller] = {}
        self._closed = False

    async def receive(self, topic: str, limit: int, wait: float) -> list[Delivery]:
        """Take messages of a topic.

        Raises:
            BackendClosedError: `close` was called, before or meanwhile.
        """
        if self._closed:
            raise closed_error()
        poller = self._pollers.get(topic)
        if poller is None:
            poller = self._pollers[topic] = Poller(
                topic, self._queues, self._polls, self._settling, prefix=self._prefix, lease=self._lease
            )
        try:
            return await (poller.wait(limit, wait) if wait else poller.look(limit))
        finally:
            if poller.idle and self._pollers.get(topic) is poller:
                del self._pollers[topic]

    def close(self) -> None:
        """End every wait, and begin no more."""
        self._closed = True
        for poller in self._pollers.values():
            poller.close()
