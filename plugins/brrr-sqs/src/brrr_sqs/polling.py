"""Receiving: all receivers of one topic in a process share one long poll after another.

SQS hides a message when it responds, and a client cannot know how long the response was on its way. So the lease counts
from the time before the poll was sent, and a poll waits for at most a third of a lease. Messages for a receiver that
has gone are passed to the next one, or released.
"""

import asyncio
import time
from asyncio import CancelledError, Future, Task
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from brrr_aws.client import AwsClient, Backoff
from brrr_core.backend import Delivery, closed_error
from brrr_core.errors import BackendError
from brrr_sqs.messages import MESSAGES_PER_REQUEST, RECEIVE_PARAMETERS, Received, parse_message
from brrr_sqs.queues import Queues, names_of
from brrr_sqs.settling import Settling

__all__ = ["MAX_POLL_SECONDS", "Poller", "Pollers"]

MAX_POLL_SECONDS: Final = 20
"""Longest wait of one SQS request."""

MAX_PARALLEL_POLLS: Final = 9
"""Most concurrent polls after a full one."""

SHORT_POLL_INTERVAL: Final = 0.25
"""Most seconds between polls that do not wait. SQS waits only for whole seconds."""

SLACK: Final = 0.1
"""Seconds by which a poll may outlast its receiver's wait, so that a wait of 20 s is one poll of 20 s, not 19 s."""


class _PollBackoff(Backoff):
    """Pauses between the attempts of one poll, with the start of the last attempt, from which leases count."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self.begun = asyncio.get_running_loop().time()

    async def pause(self) -> bool:
        again = await self._backoff.pause()
        self.begun = asyncio.get_running_loop().time()
        return again


@dataclass(slots=True, eq=False)
class _Waiter:
    limit: int
    deadline: float
    result: "Future[list[Delivery]]" = field(repr=False)


class Poller:
    """Receivers of one topic.

    Args:
        topic: The topic.
        queues: Sends requests to SQS.
        polls: The client for polls that wait, whose responses take long.
        settling: Releases messages without a receiver.
        prefix: Prefix of the queues' names.
        lease: Lease in seconds.
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
        self._longest = min(MAX_POLL_SECONDS, int(lease / 3))
        self._pace = min(SHORT_POLL_INTERVAL, lease / 10)
        self._width = 1
        self._waiting: deque[_Waiter] = deque()
        self._task: Task[None] | None = None
        self._ends = 0.0
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> bool:
        """Whether no receiver waits and no poll is running."""
        return not self._waiting and self._task is None

    async def poll_once(self, limit: int) -> list[Delivery]:
        """Return the messages that are ready now."""
        task = self._queues.gate.start(self._fetch(limit, 0), name="brrr polls a topic once")
        try:
            return await self._queues.gate.result(task)
        except CancelledError:
            task.add_done_callback(self._hand_on_result)
            raise

    async def wait(self, limit: int, wait: float) -> list[Delivery]:
        """Return the messages that become ready within `wait` seconds."""
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
        """Pass deliveries to the waiting receivers, and release the rest."""
        rest = list(deliveries)
        while rest and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.result.done():
                waiter.result.set_result(rest[: waiter.limit])
                rest = rest[waiter.limit :]
        self._settling.release_later(rest)

    def close(self) -> None:
        """End all waits with `BackendClosedError`, and cancel the running poll."""
        self._fail(closed_error())
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        if self._task is None:
            self._task = self._queues.gate.start(self._run(), name="brrr waits for a topic")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: "Task[None]") -> None:
        self._task = None
        if task.cancelled():
            self._fail(closed_error())
        elif self._waiting:
            self._start()  # a receiver came in the turn in which the task ended

    async def _run(self) -> None:
        """Poll as long as a receiver waits."""
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
        """End a receiver's wait, unless the running poll ends at about the same time."""
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
        """Poll once. If the response is full, poll more without waiting, up to `wanted` messages."""
        found = await self._poll(min(wanted, MESSAGES_PER_REQUEST), seconds)
        full = len(found) == MESSAGES_PER_REQUEST
        while full and len(found) < wanted:
            count = min(self._width, -(-(wanted - len(found)) // MESSAGES_PER_REQUEST))
            sizes = [
                min(MESSAGES_PER_REQUEST, wanted - len(found) - MESSAGES_PER_REQUEST * number)
                for number in range(count)
            ]
            tasks = [self._queues.gate.start(self._poll(each, 0), name="brrr polls more of a topic") for each in sizes]
            try:
                await asyncio.wait(tasks)
            except CancelledError:
                for task in tasks:
                    task.cancel()
                raise
            # Ignore a failed poll: return what the others received. The next poll raises the error.
            more = [task.result() for task in tasks if not task.cancelled() and task.exception() is None]
            for each in more:
                found += each
            full = len(more) == count and all(len(each) == size for each, size in zip(more, sizes, strict=True))
            self._width = min(MAX_PARALLEL_POLLS, 2 * self._width) if full else max(1, self._width // 2)
        return self._ready(found)

    async def _poll(self, limit: int, seconds: int) -> list[Received]:
        backoff = _PollBackoff(self._polls.backoff())
        request = {
            **RECEIVE_PARAMETERS,
            "MaxNumberOfMessages": limit,
            "WaitTimeSeconds": seconds,
            "VisibilityTimeout": int(self._lease),
        }
        # A silent server ends a poll that does not wait after `timeout`, and a long poll after its longest wait more.
        client = self._polls if seconds else None
        response = await self._queues.call(self._name, "ReceiveMessage", request, client=client, backoff=backoff)
        found = (response or {}).get("Messages") or ()
        return [parse_message(self._topic, each, begun=backoff.begun, lease=self._lease) for each in found]

    def _ready(self, found: Sequence[Received]) -> list[Delivery]:
        """Return the deliveries whose lease has not expired on the way and which are due. Resend early messages."""
        now = time.time()
        held = [each for each in found if each.receipt.held()]
        self._settling.resend_early([each for each in held if each.due > now])
        return [each.delivery for each in held if each.due <= now]


class Pollers:
    """Pollers of one backend, one per topic."""

    def __init__(self, queues: Queues, polls: AwsClient, settling: Settling, *, prefix: str, lease: float) -> None:
        self._queues = queues
        self._polls = polls
        self._settling = settling
        self._prefix = prefix
        self._lease = lease
        self._pollers: dict[str, Poller] = {}

    async def receive(self, topic: str, limit: int, wait: float) -> list[Delivery]:
        """Receive messages of a topic.

        Raises:
            BackendClosedError: The backend was closed.
        """
        self._queues.gate.check()
        poller = self._pollers.get(topic)
        if poller is None:
            poller = self._pollers[topic] = Poller(
                topic, self._queues, self._polls, self._settling, prefix=self._prefix, lease=self._lease
            )
        try:
            return await (poller.wait(limit, wait) if wait else poller.poll_once(limit))
        finally:
            if poller.idle and self._pollers.get(topic) is poller:
                del self._pollers[topic]

    def close(self) -> None:
        """End all waits."""
        for poller in self._pollers.values():
            poller.close()
