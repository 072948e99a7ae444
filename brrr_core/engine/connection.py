"""A connection: schedules calls, reads values and runs workers on the backends of one fleet."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from brrr_core.backend.checks import check_delay, check_topic
from brrr_core.backend.contracts import Cache, Key, Queue, Store
from brrr_core.backend.inspection import LetterBox
from brrr_core.backend.steps import Steps
from brrr_core.engine import termination
from brrr_core.engine.cancelling import CANCELLED, Canceller
from brrr_core.engine.control import Control
from brrr_core.engine.forgetting import Forgetter, Forgotten, ToForget
from brrr_core.engine.hooks import Hooks
from brrr_core.engine.letters import Letter, ids_of, message_in
from brrr_core.engine.lifespan import lifespan_of
from brrr_core.engine.local_cache import RunHistory, ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.outages import ROLES, Outages
from brrr_core.engine.policy import Policy
from brrr_core.engine.retrying import Retrier
from brrr_core.engine.returning import Reassigner, Returner
from brrr_core.engine.roots import SpawnBudget, check_spawn_limit
from brrr_core.engine.running import RunHandler
from brrr_core.engine.schedules import RecurringSchedule, begin_schedules
from brrr_core.engine.scheduling import Scheduler
from brrr_core.engine.services import IsolationGate, Services
from brrr_core.engine.silence import Silence
from brrr_core.engine.starting import Scheduled, Starter, StartRequest
from brrr_core.engine.threads import HandlerThreads
from brrr_core.engine.wait_limits import check_wait, longest_cached
from brrr_core.engine.worker import Worker
from brrr_core.errors import ArgumentError
from brrr_core.hooks import BackendWarned
from brrr_core.safe_text import Mask
from brrr_core.wire import Call

__all__ = ["Connection"]

ResultT = TypeVar("ResultT")


class Connection:
    """Schedules calls, reads values and runs workers on one queue, one store and one cache.

    `brrr_core.serve` and `brrr_core.connect` make one from URLs.

    Attributes:
        queue: The queue, for tools of operators.
        store: The store.
        cache: The cache.
        policy: The settings.
        mask: Replaces the secrets of the backends in a text, for programs that show texts.
        silence: Notices standstills.
    """

    def __init__(
        self,
        queue: Queue,
        store: Store,
        cache: Cache,
        *,
        steps: Steps | None = None,
        policy: Policy | None = None,
        hooks: Iterable[object] = (),
        delays: bool = True,
        mask: Mask = str,
        clock: Callable[[], float] = time.time,
        backends: Sequence[str] = ROLES,
    ) -> None:
        self.queue = queue
        self.store = store
        self.cache = cache
        self.policy = policy or Policy()
        self.mask = mask
        plugins = Hooks(hooks, mask=mask)
        self._operations = Operations(
            queue,
            store,
            cache,
            steps=steps,
            clock=clock,
            delays=delays,
            outages=Outages(plugins, mask, backends, clock=asyncio.get_running_loop().time),
        )
        self.silence = Silence(plugins, clock, self.policy.stale_after)
        self._budget = SpawnBudget(self._operations, self.policy.spawn_limit)
        self._control = Control(self._operations)
        self._canceller = Canceller(self._operations, self._budget, self._control)
        values = ValueCache(
            self.policy.cache_bytes, max_age=longest_cached(self._operations.expires_after), clock=clock
        )
        self._control.on_forgotten = values.clear
        returner = Returner(self._operations, self._budget, values)
        self._services = Services(
            operations=self._operations,
            budget=self._budget,
            scheduler=Scheduler(self._operations, self._budget, returner, self.policy.resend_after),
            reassigner=Reassigner(self._operations, self._budget, returner),
            returner=returner,
            control=self._control,
            cache=values,
            history=RunHistory(),
            hooks=plugins,
            silence=self.silence,
            policy=self.policy,
            mask=mask,
            isolation=IsolationGate(),
            threads=HandlerThreads(),
        )
        self._starter = Starter(self._operations, self._budget, returner, self.policy.resend_after)
        self._retrier = Retrier(self._operations, self._control, self._starter, returner)
        self._forgetter = Forgetter(self._operations, self._control)
        self._workers: set[Worker] = set()
        self._stopped = False

    async def schedule(
        self, call: Call, topic: str, *, delay: float = 0, redrive: bool = False, spawn_limit: int | None = None
    ) -> Scheduled:
        """Put a call on a topic, unless it has an outcome, or was put less than the policy's `resend_after` ago.

        Args:
            call: The call.
            topic: The topic.
            delay: Seconds before it may run. A delayed schedule does not keep later ones from putting the call.
            redrive: Put the call and every missing child again, because the queue lost messages.
            spawn_limit: The most messages that this schedule may cause; the policy's limit by default. Workers of every
                SDK honour it.

        Returns:
            What happened, and the root id if a message was put.

        Raises:
            ArgumentError: The topic is empty, the delay is not a number of seconds, or the spawn limit is less than 1.
            WaitTooLongError: The delay is longer than half of the store's `ttl`.
            MalformedRecordError: The pending record of the call is not valid.
            BackendError: A backend failed. The call may have been put anyway; scheduling it again is safe.
        """
        check_topic(topic)
        check_delay(delay)
        check_spawn_limit(spawn_limit)
        check_wait("the delay", delay, self._operations.expires_after)
        return await self._starter.start(StartRequest(call, topic, delay, redrive, spawn_limit))

    async def settle(self, call_hash: str, payload: bytes) -> bool:
        """Give a call or an event its outcome by hand, if it has none, and wake its callers.

        Args:
            call_hash: The call.
            payload: Its encoded value, or the record of a failure.

        Returns:
            Whether `payload` became the outcome. If not, the call already had one; its callers are woken again.

        Raises:
            SpawnLimitError: The schedule of a caller is over its limit. If other schedules need that caller, it runs
                for them. The outcome is stored, and the other callers wake.
            BackendError: A backend failed. Settling again is safe, and completes it.
        """
        first, over_limit = await self._services.returner.settle(call_hash, payload)
        for parent in over_limit:
            await self._services.reassigner.reassign(parent, again=True)
        if over_limit:
            raise self._budget.exceeded(over_limit[0].root_id)
        return first

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the records of the keys, in a batch with other reads; None for each that is absent."""
        return await self._operations.read(keys)

    async def value(self, call_hash: str) -> bytes | None:
        """Return the encoded value of the call; None if it has no value yet."""
        (value,) = await self._operations.read([Key("value", call_hash)])
        return value

    async def cancel(self, call: Call, topic: str, *, force: bool = False, root_id: str | None = None) -> bool:
        """Ask the next run of a call to raise `Cancelled`. A call that was never scheduled fails immediately.

        Args:
            call: The call.
            topic: Its topic.
            force: Let it fail immediately. Its handler does not get `Cancelled`, and cleans nothing up.
            root_id: The schedule on whose behalf the messages are put; a new one by default.

        Returns:
            False if the call has an outcome already.

        Raises:
            ArgumentError: The topic is empty.
            BackendError: A backend failed. Repeating the request is safe.
        """
        check_topic(topic)
        if force:
            return await self.settle(call.call_hash, CANCELLED)
        return await self._canceller.cancel(call.call_hash, topic, root_id=root_id)

    async def cancel_schedule(self, root_id: str) -> None:
        """Stop a schedule: workers drop its messages. Calls that other schedules need continue for those.

        Raises:
            BackendError: A backend failed. Repeating the request is safe.
        """
        await self._canceller.cancel_schedule(root_id)

    async def resume_schedule(self, root_id: str) -> None:
        """Undo `cancel_schedule`. To run the dropped messages, schedule the workflow again.

        Raises:
            BackendError: A backend failed. Repeating the request is safe.
        """
        await self._canceller.resume_schedule(root_id)

    async def is_cancelled(self, root_id: str) -> bool:
        """Whether a schedule is cancelled.

        Raises:
            BackendError: A backend failed.
        """
        return await self._control.is_cancelled(root_id)

    async def retry(self, call: Call, topic: str) -> str | None:
        """Delete the failure of a call, and those of the calls that made it fail. Then put the call.

        Returns:
            The root id; None if the call has a value, is scheduled, or was never scheduled.

        Raises:
            ArgumentError: The topic is empty.
            BackendError: A backend failed. Repeating the retry completes it.
        """
        check_topic(topic)
        return await self._retrier.retry(call, topic)

    async def forget(self, calls: Sequence[ToForget], *, force: bool = False) -> Forgotten:
        """Delete the records of calls, in the order that is given, and let workers drop them from their memory.

        Raises:
            StillNeededError: The last of the calls is still needed; not if `force` is set. Nothing is deleted.
            BackendError: A backend failed. Repeating it is safe.
        """
        return await self._forgetter.forget(calls, force=force)

    async def redrive(self, topic: str, *, limit: int) -> int:
        """Put dead letters back on their topic, oldest first, and delete the failures of their calls.

        Args:
            topic: The topic.
            limit: The most dead letters.

        Returns:
            The number of dead letters that were put back.

        Raises:
            ArgumentError: The topic is empty.
            BackendError: A backend failed. Repeating it is safe.
        """
        check_topic(topic)
        return await self._retrier.redrive(topic, limit=limit)

    async def redrive_letters(self, box: LetterBox, topic: str, letters: Sequence[Letter]) -> int:
        """Put chosen dead letters back on their topic, and delete the failures of their calls.

        Returns:
            The number of dead letters that were put back.

        Raises:
            BackendError: A backend failed. Repeating it is safe.
        """
        messages = [message_in(letter.body) for letter in letters]
        return await self._retrier.put_back(topic, messages, lambda: box.redrive(topic, ids_of(letters)))

    async def loop(
        self, topic: str, handle: RunHandler, *, concurrency: int = 64, schedules: Iterable[RecurringSchedule] = ()
    ) -> None:
        """Work on a topic until `stop`, SIGTERM or cancellation. All three let running handlers finish.

        Several loops may run at the same time, also on several connections. The loop reacts to SIGTERM if it runs in
        the main thread of a process that has no SIGTERM handler of its own.

        Args:
            topic: The topic to receive from. The worker must have a handler for every call on it.
            handle: `AppWorker.handle`. If the application has a lifespan, the loop receives when its state exists.
            concurrency: The most calls that run at the same time.
            schedules: Recurring schedules to run together with the loop: `[brrr_cron.every("0 3 * * *", nightly)]`.

        Raises:
            LifespanError: The lifespan of the application failed.
            ArgumentError: The topic is empty, `concurrency` is less than 1, or two schedules have one name.
            BackendError: The queue has not answered for longer than the policy's `unavailable_timeout`.
        """
        check_topic(topic)
        if concurrency < 1:
            raise ArgumentError(f"concurrency is {concurrency}", remedy="Set it to 1 or more.")
        ticks = begin_schedules(schedules, self, handle, topic)
        worker = Worker(self._services, topic, handle, concurrency, ticks)
        if self._stopped:
            return
        self._workers.add(worker)
        termination.stop_on_sigterm(self.stop, grace=self.policy.grace)
        lifespan = lifespan_of(handle)
        try:
            await lifespan.enter(stopping=worker.stopping, stop=worker.stop)
            try:
                if not worker.stopping.is_set():
                    await worker.run()
            finally:
                await lifespan.leave()
        finally:
            termination.unregister(self.stop)
            self._workers.discard(worker)

    def stop(self) -> None:
        """Stop all loops of this connection gracefully, and those that have not begun yet."""
        self._stopped = True
        for worker in self._workers:
            worker.stop()

    def warn(self, roles: str, warnings: Iterable[str]) -> None:
        """Tell the plugins how the backend with these roles may lose data."""
        for warning in warnings:
            self._services.hooks.emit(BackendWarned(roles, warning))

    async def in_thread(self, function: Callable[[], ResultT]) -> ResultT:
        """Run a blocking function in a thread of this connection, with the context variables of the caller."""
        return await self._services.threads.run(function)

    async def close(self) -> None:
        """Stop the loops, and wait for running operations. The backends stay open for the caller to close."""
        self.stop()
        await self._starter.close()
        await self._services.scheduler.close()
        await self._services.returner.close()
        await self._operations.close()
        self._services.threads.close()
