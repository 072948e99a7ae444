"""One run of a handler: its context variables, the values that it read, and the calls that it made."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from types import coroutine
from typing import Any, Final, TypeAlias, TypeVar

from brrr_core.backend.contracts import Key
from brrr_core.engine.batching import BATCH_LIMIT
from brrr_core.engine.calls import Cancelled, Child, Defer, Outdated, Wait
from brrr_core.engine.determinism import compare, merge, refuse_root_id
from brrr_core.engine.failures import without_traceback
from brrr_core.engine.local_cache import PREFETCH_LIMIT, RECHECK_LIMIT, PreviousRun, ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.policy import NO_SETTINGS
from brrr_core.engine.versions import check_version, read_version, record_version, version_hash
from brrr_core.engine.waits import Waits, reserved
from brrr_core.errors import BackendError, CycleError
from brrr_core.wire import FAILURE_PREFIX, NO_STATE, Call, CallState

__all__ = ["PARK_LIMIT", "Run", "run_in_context"]

PARK_LIMIT: Final = 100
"""The most missing children of a run that is parked. A wide gather runs again only once or twice anyway."""

ResultT = TypeVar("ResultT")

Report: TypeAlias = "Callable[[Run, list[tuple[Child, bool]]], None]"
"""Reports calls that a run makes, and for each whether it has an outcome already. Events and sleeps are left out."""


class Run:
    """One run of a call. The active worker looks up children through it.

    Attributes:
        root_id: The root id of the message.
        call: The call.
        context: The context variables of the handler.
        topic: The topic of the message, and the default topic of the children.
        attempt: The number of this attempt: 1 plus the failed attempts that were counted.
        missing: The children that have no value yet, by `Child.key`; not all of them if a gather is very wide.
        backend_error: The error of a backend or of the engine. If there is one, the run does not count.
        policy: The settings of the handler.
        state: The state of the call when the run began.
        waits: Its sleeps and deadlines.
        version_recorded: Whether the version of the handler is recorded, or needs no record.
        interruptible: Whether the worker may cancel the handler if someone cancels the call. A thread cannot be ended.
        interrupted: Whether it did.
        version: The version of the handler with which the call began; 0 if the handler has none.
        previous: The previous run of the call on this worker, if it is known.
        unparked: The number of blocks that the handler is in and that forbid to park it.
        settled: Whether its delivery is settled already, because the run is parked or was aborted there.
        outdated: Whether the run must not take effect, because someone cancelled or retried the call since it began.
        unsent: The calls to send as soon as the store knows where the handler got `Cancelled`.
    """

    __slots__ = (
        "_asked",
        "_cache",
        "_cancelled_at",
        "_concurrent",
        "_observed",
        "_operations",
        "_own",
        "_park",
        "_presume",
        "_reads",
        "_report",
        "_reported",
        "_schedule",
        "_send",
        "_siblings",
        "attempt",
        "backend_error",
        "call",
        "context",
        "interrupted",
        "interruptible",
        "missing",
        "outdated",
        "policy",
        "previous",
        "root_id",
        "settled",
        "state",
        "topic",
        "unparked",
        "unsent",
        "version",
        "version_recorded",
        "waits",
    )

    def __init__(
        self,
        *,
        root_id: str,
        call: Call,
        topic: str,
        attempt: int,
        operations: Operations,
        cache: ValueCache,
        schedule: "Callable[[Run, Sequence[Child]], Awaitable[object]]",
        send: "Callable[[Run, Child], Awaitable[bytes | None]]",
        check: bool,
        waits: Waits,
        state: CallState = NO_STATE,
        previous: PreviousRun | None = None,
        park: "Callable[[Run], Awaitable[bool]] | None" = None,
        context: Context | None = None,
        report: "Report | None" = None,
    ) -> None:
        self.root_id = root_id
        self.call = call
        self.context = copy_context() if context is None else context
        self.topic = topic
        self.attempt = attempt
        self.missing: dict[str, Child] = {}
        self.backend_error: Exception | None = None
        self.policy = NO_SETTINGS
        self.state = state
        self.waits = waits
        self.interruptible = True
        self.interrupted = False
        self.previous = previous
        self.unparked = 0
        self.settled = False
        self.outdated = False
        self.unsent: list[Child] = []
        self._park = None if check else park
        self._report = report
        self._reported = set(() if report is None or previous is None else previous.reads)
        self._presume = True
        self._cancelled_at: list[str] = []
        self._siblings: set[asyncio.Task[Any]] = set()
        self._observed: dict[str, bytes] = {}
        self.version = 0
        self.version_recorded = True
        self._operations = operations
        self._cache = cache
        self._schedule = schedule
        self._send = send
        self._reads: list[str] = []
        self._asked: list[Call] | None = [] if check else None
        self._own: asyncio.Task[Any] | None = None
        self._concurrent = False
        self.adopt()

    def adopt(self) -> None:
        """Treat the current task as the handler's own. The calls of a sync handler come from several tasks in turn."""
        self._own = asyncio.current_task()

    def disown(self) -> None:
        """Forget the current task, which ends. Its error would keep this run, whose frames its traceback holds."""
        self._own = None

    def wait(self, due: float, key: str | None) -> Wait:
        """Begin a wait that ends at `due`, in unix seconds. Its errors are those of `Waits.begin`."""
        return self.waits.begin(due, key, alone=self._is_alone())

    def _is_alone(self) -> bool:
        """Whether the caller is the task of the handler itself."""
        try:
            return asyncio.current_task() is self._own
        except RuntimeError:  # the thread of a sync handler
            return True

    async def find_version(self, version: int) -> None:
        """Find the version with which the call began. It is that of its handler if the call has not deferred yet.

        Raises:
            NotHere: Another worker must continue it: one with newer code, or one on another topic.
            VersionError: The call began with older code.
        """
        name = version_hash(self.call.call_hash, self.state.retries)
        try:
            begun = await read_version(self._operations, self._cache, name)
        except BackendError as error:
            self.backend_error = error
            raise
        if begun is not None:
            check_version(self.call, self.topic, self.policy, begun, lease=self._operations.queue.lease)
        self.version = version if begun is None else begun
        self.version_recorded = begun is not None
        self._reads.append(name)  # the next run reads it in its first batch

    async def record_version(self) -> bool:
        """Record the version before the call defers for the first time. False if another run of it did so first."""
        name = version_hash(self.call.call_hash, self.state.retries)
        return await record_version(self._operations, self._cache, name, self.version)

    async def defer(self) -> None:
        """Defer the run, which misses values. Return when they exist, if the run can be kept until then.

        Raises:
            Defer: The run cannot be kept, or not any longer.
        """
        if not self._may_park() or self._park is None:
            raise Defer
        self._presume = await self._park(self)
        self.missing.clear()

    def _may_park(self) -> bool:
        """Whether the run may be parked at the present place of the handler."""
        return (
            self._park is not None
            and self.policy.park
            and self.policy.timeout is None
            and self.interruptible
            and not self._concurrent
            and not (self.unparked or self.settled or self.interrupted or self.state.cancel or self.waits.begun)
            and len(self.missing) <= PARK_LIMIT
        )

    def _enter(self) -> None:
        """Begin a step of the handler, perhaps in another of its tasks.

        Raises:
            Defer: The run is parked, or was aborted there, so it has no delivery. Or it must not take effect.
        """
        self._concurrent = self._concurrent or not self._is_alone()
        if self.settled or self.outdated:
            raise Defer

    async def _effect(self, operation: Awaitable[ResultT]) -> ResultT:
        """Return the result of an operation that puts calls.

        Raises:
            Defer: The run must not take effect.
            BackendError: A backend failed.
        """
        try:
            return await operation
        except Outdated:
            self.outdated = True
            raise Defer from None
        except BackendError as error:
            self.backend_error = error
            raise

    async def look_up(self, children: Sequence[Child], *, presume: bool = False) -> list[bytes | None]:
        """Return the values of the children, in order; None for each that has no value yet.

        If one is None, this run will defer. The caller must call `defer` when it has looked up all its children.

        Args:
            children: The children.
            presume: Whether to presume that children that are not known have no values, if that saves a read.

        Raises:
            CycleError: A child is the call itself.
            Cancelled: Someone cancelled the call, and this is the first missing child.
        """
        self._enter()
        try:
            return await self._look_up(children, presume=presume)
        except BackendError as error:
            self.backend_error = error
            raise

    async def request(self, operation: Awaitable[ResultT]) -> ResultT:
        """Return the result of an operation on a backend. If the backend fails, the run does not count."""
        self._enter()
        try:
            return await operation
        except BackendError as error:
            self.backend_error = error
            raise

    async def _look_up(self, children: Sequence[Child], *, presume: bool) -> list[bytes | None]:
        if self.waits.begun and any(child.wait is not None for child in children):
            children, values = await self.waits.look_up(children, self._read)
            self._reads.extend(reserved(children))
            unknown: Sequence[int] = range(len(children))
        else:
            values, unknown = await self._look_up_calls(children, presume=presume)
        if self._report is not None:
            self._report_made(children, values, self._report)
        if self.state.cancel:
            self._raise_cancelled(children, values)
        if unknown:
            self._note(children, values, unknown)
        if len(self._reads) < PREFETCH_LIMIT:
            self._reads.extend(child.call.call_hash for child in children)
        if self._asked is not None:
            self._asked.extend(child.call for child in children)
        if len(self.missing) > BATCH_LIMIT and not self._undecided:
            await self._schedule_early()
        return values

    async def _look_up_calls(
        self, children: Sequence[Child], *, presume: bool
    ) -> tuple[list[bytes | None], Sequence[int]]:
        """Return the values of the children, and the indexes of those that were not known before."""
        cached, observed = self._cache.get, self.state.observed
        values = [cached(child.call.call_hash) for child in children]
        if observed:
            values = [observed.get(child.call.call_hash, value) for child, value in zip(children, values, strict=True)]
        unknown = [index for index, value in enumerate(values) if value is None]
        if unknown and not (presume and self._may_presume(children)):
            found = await self._operations.read([Key("value", children[index].call.call_hash) for index in unknown])
            for index, value in zip(unknown, found, strict=True):
                values[index] = value
                if value is not None:
                    self._cache.add(children[index].call.call_hash, value)
            self._presume = found.count(None) == len(found)
        return values, unknown

    def _may_presume(self, children: Sequence[Child]) -> bool:
        """Whether to defer without a read: the step that defers the run finds values too, and costs no more."""
        return (
            self._presume
            and self._operations.has_steps
            and len(children) + len(self.missing) <= PARK_LIMIT
            and self._may_park()
            and all(child.topic for child in children)
        )

    async def _read(self, hashes: Sequence[str]) -> dict[str, bytes | None]:
        """Return the values of call hashes: those that the handler has seen before, cached ones, and stored ones."""
        values = {name: self.state.observed.get(name) or self._cache.get(name) for name in hashes}
        unknown = [name for name, value in values.items() if value is None]
        stored = await self._operations.read([Key("value", name) for name in unknown])
        for name, value in zip(unknown, stored, strict=True):
            values[name] = value
            if value is not None:
                self._cache.add(name, value)
        return values

    @property
    def _undecided(self) -> bool:
        """Whether another run may still decide where `Cancelled` is raised. Until then, this run must not put calls."""
        return self.state.cancel and not self.state.cancelled_at

    @property
    def has_looked(self) -> bool:
        """Whether the handler has asked for a call. Otherwise all its runs have the same result."""
        return bool(self._reads or self._cancelled_at)

    def news(self, *, ends: bool = False) -> CallState:
        """Return the state of the call with all that the handler has seen in this run, for its re-runs.

        If a run of a cancelled call ends without `Cancelled`, the state names the call itself, so that no later run
        gets it either.
        """
        cancelled_at = self.state.cancelled_at or tuple(self._cancelled_at)
        if ends and self.state.cancel and not cancelled_at:
            cancelled_at = (self.call.call_hash,)
        if not self._observed and cancelled_at == self.state.cancelled_at:
            return self.state
        seen = {call_hash: without_traceback(record) for call_hash, record in self._observed.items()}
        return replace(self.state, cancelled_at=cancelled_at, observed={**seen, **self.state.observed})

    async def send(self, child: Child) -> None:
        """Schedule a call that the handler does not wait for, unless it has an outcome or was scheduled before.

        Raises:
            SpawnLimitError: The root is over its spawn limit.
        """
        self._enter()
        call_hash = child.call.call_hash
        if len(self._reads) < PREFETCH_LIMIT:
            self._reads.append(call_hash)
        if self._asked is not None:
            self._asked.append(child.call)
        known = self._cache.get(call_hash)
        if self._report is not None:
            self._report_made((child,), (known,), self._report)
        if known is not None:
            return
        if self._undecided:
            self.unsent.append(child)
            return
        value = await self._effect(self._send(self, child))
        if value is not None:
            self._cache.add(call_hash, value)

    def _report_made(self, children: Sequence[Child], values: Sequence[bytes | None], report: "Report") -> None:
        """Report the calls among the children that neither this run nor the previous one reported."""
        made = {child.call.call_hash: (child, value is not None)
                for child, value in zip(children, values, strict=True) if child.topic}  # fmt: skip
        new = [each for call_hash, each in made.items() if call_hash not in self._reported]
        if len(self._reported) < PREFETCH_LIMIT:
            self._reported.update(made)
        if new:
            report(self, new)

    def check(self, previous: PreviousRun | None) -> None:
        """Check the calls of this run, which has ended, and compare them with those of the previous run.

        If concurrent tasks of a handler make calls, and one of them aborts the run, the others may have made any number
        of their calls. Then the calls are compared in the first run that is not aborted.

        Raises:
            NondeterminismError: The run passed its root id to a call, or did not make a call that the previous run
                made.
        """
        asked = self._asked or []
        read = (self._cache.get(call_hash) for call_hash in self._reads)
        refuse_root_id(self.call, self.root_id, asked, read)
        if previous is None:
            return
        if self.missing and self._concurrent:
            self._asked = merge(previous.asked, asked)
        else:
            compare(self.call, previous.asked, asked, (previous.attempt, self.attempt))

    def summary(self) -> PreviousRun:
        """Return what the run history keeps of this run."""
        missing = tuple(self.missing.values())[-RECHECK_LIMIT:]
        return PreviousRun(
            tuple(self._reads[:PREFETCH_LIMIT]),
            missing,
            tuple(self._asked or ()),
            attempt=self.attempt,
            timed=self.waits.begun,
        )

    def _note(self, children: Sequence[Child], values: Sequence[bytes | None], unknown: Sequence[int]) -> None:
        """Note the missing children. If none is missing, note the failures: the handler sees them."""
        missing = [index for index in unknown if values[index] is None]
        for index in missing:
            self._miss(children[index])
        if not missing:
            for index in unknown:
                value = values[index]
                if value is not None and value.startswith(FAILURE_PREFIX):
                    self._observed[children[index].call.call_hash] = value

    def _raise_cancelled(self, children: Sequence[Child], values: Sequence[bytes | None]) -> None:
        """Raise `Cancelled` if the call is cancelled, once in each concurrent part of the handler.

        Raises:
            Cancelled: An earlier run got it at one of these children, or this is the first missing child.
        """
        before = self.state.cancelled_at
        for child, value in zip(children, values, strict=True):
            call_hash = child.call.call_hash
            if call_hash in self._cancelled_at:
                continue
            if call_hash in before or (value is None and self._task_needs_cancelled()):
                self._cancelled_at.append(call_hash)
                raise Cancelled

    def _task_needs_cancelled(self) -> bool:
        """Whether the current task has yet to get `Cancelled`: it is the first, or ran when the first one got it."""
        if self.state.cancelled_at:
            return False
        current = asyncio.current_task()
        if not self._cancelled_at:
            self._siblings = {task for task in asyncio.all_tasks() if task not in (current, self._own)}
            return True
        if current not in self._siblings:
            return False
        self._siblings.remove(current)
        return True

    def _miss(self, child: Child) -> None:
        if child.call.call_hash == self.call.call_hash:
            raise CycleError(
                f"the handler {self.call.task_name!r} called itself with its own arguments",
                remedy="The call would wait for itself forever. End the recursion, or call it with other arguments.",
            )
        self.missing[child.key] = child

    async def _schedule_early(self) -> None:
        """Schedule all but the last missing children now, so that memory does not hold all of a wide gather (I4)."""
        early = list(self.missing.values())[:-RECHECK_LIMIT]
        for child in early:
            del self.missing[child.key]
        await self._effect(self._schedule(self, early))


@coroutine
def run_in_context(context: Context, running: Coroutine[Any, Any, ResultT]) -> Generator[Any, Any, ResultT]:
    """Return the result of `running`. Each of its steps reads and sets the variables of `context`.

    A new task would also have its own context. But a handler that cancels its current task must cancel this one.
    """
    given: Any = None
    step = running.send
    while True:
        try:
            waited = context.run(step, given)
        except StopIteration as ended:
            result: ResultT = ended.value
            return result
        finally:
            given = None  # this frame must not keep an error that passes through it, nor the future that raised it
        try:
            given, step = (yield waited), running.send
        except BaseException as error:  # noqa: BLE001 - the coroutine gets every exception, also a cancellation
            given, step = error, running.throw
        finally:
            del waited
