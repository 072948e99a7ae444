"""Run handlers against the store without any effect on it, to find which calls they make.

A replay uses the engine's own run of a handler, on operations that only read. A call without a value ends it, as in a
worker. Nothing is put, written or counted.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import Any, Final, NamedTuple, TypeVar

from brrr_core.app.catalogue import Catalogue
from brrr_core.app.tasks import Task
from brrr_core.app.worker import AppWorker
from brrr_core.backend import Cache, Key, Queue, Store, Swap
from brrr_core.engine.calls import Again, Cancelled, Child, Defer, NotHere
from brrr_core.engine.lifespan import Lifespan
from brrr_core.engine.local_cache import ValueCache
from brrr_core.engine.operations import Operations
from brrr_core.engine.run import Run, run_in_context
from brrr_core.engine.waits import Waits
from brrr_core.errors import BackendError
from brrr_core.safe_text import describe
from brrr_core.wire import FAILURE_PREFIX, Call, CallState
from brrr_explain.graph import NO_CALLS

__all__ = ["Replay", "Replayer", "refusal"]

CACHE_BYTES: Final = 256 * 1024 * 1024
"""The most bytes of values that are kept, so that no value is read twice."""

TIMEOUT_SECONDS: Final = 10.0
"""Seconds after which the replay of a handler is cancelled."""

ResultT = TypeVar("ResultT")


class Replay(NamedTuple):
    """The outcome of the replay of a handler.

    Attributes:
        children: The calls that it awaited, in order, by call hash.
        values: The values of those that have one.
        outlook: How the next run will end, if the replay did not end at a missing value.
        refused: Why the handler did not run, or was ended early; then its children are not known.
    """

    children: Mapping[str, Child] = {}
    values: Mapping[str, bytes] = {}
    outlook: str | None = None
    refused: str | None = None


class _Ended(BaseException):
    """Ends a replay, because the handler would have an effect or use a resource."""


class _ReadOnly(Operations):
    """Operations for a run, which only reads. A swap succeeds without a trace: waits decide their outcomes by it."""

    def swap(self, swaps: Sequence[Swap]) -> "asyncio.Future[list[bool]]":
        done: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        done.set_result([True] * len(swaps))
        return done


class _Values(ValueCache):
    """The values and failures that were read. Each is read only once."""

    def __init__(self) -> None:
        super().__init__(CACHE_BYTES)
        self._failures: dict[str, bytes] = {}

    def get(self, call_hash: str) -> bytes | None:
        return super().get(call_hash) or self._failures.get(call_hash)

    def add(self, call_hash: str, value: bytes) -> None:
        if value.startswith(FAILURE_PREFIX):
            self._failures[call_hash] = value
        else:
            super().add(call_hash, value)


class _NoState(Lifespan):
    """The state of an application that does not run."""

    @property
    def state(self) -> Any:
        raise _Ended("it uses `app.state`")


class _ReplayRun(Run):
    """A run that records the calls of its handler, and ends the handler before it has an effect."""

    __slots__ = ("children", "values")

    def __init__(self, call: Call, topic: str, operations: Operations, cache: ValueCache, state: CallState) -> None:
        super().__init__(
            root_id="replay",
            call=call,
            topic=topic,
            attempt=1,
            operations=operations,
            cache=cache,
            schedule=_schedule_nothing,
            send=_refuse_send,
            check=False,
            waits=Waits(call, operations, due=0, longest=float("inf"), retries=state.retries),
            state=state,
        )
        self.children: dict[str, Child] = {}
        self.values: dict[str, bytes] = {}

    async def look_up(self, children: Sequence[Child], *, presume: bool = False) -> list[bytes | None]:
        del presume  # a presumed value is not read, and this run is about reading
        for child in children:
            self.children.setdefault(child.call.call_hash, child)
        values = await super().look_up(children)
        for child, value in zip(children, values, strict=True):
            if value is not None:
                self.values[child.call.call_hash] = value
        return values

    async def request(self, operation: Any) -> Any:
        operation.close()
        raise _Ended("it uses `app.cancel`")


async def _schedule_nothing(_: Run, __: Sequence[Child]) -> None:
    """Do nothing: a replay schedules no call."""


async def _refuse_send(_: Run, __: Child) -> bytes | None:
    raise _Ended("it uses `app.send`")


class _ReplayWorker(AppWorker):
    """Runs the handlers of an application without its lifespan."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(handlers=catalogue.tasks, codec=catalogue.codec, connection=catalogue.connection)
        self._lifespan = _NoState()

    def _warn(self, task: Task, text: str) -> None:
        """Give no warnings: workers give them."""


def refusal(task: Task | None, *, replay_all: bool) -> str | None:
    """Return why a task is not replayed; None if it is.

    Args:
        task: The task, or None if the handlers do not have it.
        replay_all: Whether to run every handler that takes the active worker.
    """
    if task is None:
        return "no handler has this name here"
    if not task.takes_app:
        return NO_CALLS
    if not (task.policy.replay or replay_all):
        return "it is not declared `@brrr.handler(replay=True)`"
    return None


class Replayer:
    """Replays handlers on the records of one store.

    Args:
        catalogue: The tasks and the codec.
        queue: The queue; nothing is put on it.
        store: The store; it is only read.
        cache: The cache; it is not used.
        clock: Returns the time, in unix seconds.
    """

    def __init__(
        self, catalogue: Catalogue, queue: Queue, store: Store, cache: Cache, clock: Callable[[], float]
    ) -> None:
        self._operations = _ReadOnly(queue, store, cache, clock=clock)
        self._values = _Values()
        self._worker = _ReplayWorker(catalogue)

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Return records.

        Raises:
            BackendError: The store failed.
        """
        return await self._operations.read(keys)

    async def value(self, call_hash: str) -> bytes | None:
        """Return the value of a call. It is read only once.

        Raises:
            BackendError: The store failed.
        """
        value = self._values.get(call_hash)
        if value is None:
            (value,) = await self._operations.read([Key("value", call_hash)])
            if value is not None:
                self._values.add(call_hash, value)
        return value

    async def replay(self, call: Call, topic: str, state: CallState) -> Replay:
        """Run the handler of a call up to its first missing value.

        Args:
            call: The call.
            topic: Its topic, which is that of its children too if they name none.
            state: The state of the call.

        Raises:
            BackendError: The store failed.
        """
        run = _ReplayRun(call, topic, self._operations, self._values, state)
        outlook = refused = None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await run_in_context(copy_context(), self._worker.handle(run, call))
            outlook = None if run.missing else "its next run returns"
        except Defer:
            pass
        except NotHere as ended:
            refused = ended.reason
        except (Again, Cancelled) as ended:
            outlook = f"its next run ends with {type(ended).__name__}: {ended}"
        except _Ended as ended:
            refused = str(ended)
        except TimeoutError:
            refused = f"it ran for longer than {TIMEOUT_SECONDS:g} s without a call"
        except BackendError:
            raise
        except Exception as error:  # noqa: BLE001 - the handler's own error is what its next run raises
            outlook = None if run.missing else f"its next run raises {describe(error)}"
        if run.backend_error is not None:
            raise run.backend_error
        children = run.children | {child.call.call_hash: child for child in run.missing.values()}  # with due times
        return Replay(children, run.values, outlook, refused)

    async def close(self) -> None:
        """Wait until all reads are done."""
        await self._operations.close()
