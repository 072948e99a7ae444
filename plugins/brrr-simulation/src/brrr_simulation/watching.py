"""Watch the handlers of a check: their runs and effects, races on their state, and each `Defer` that they swallow."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import brrr_core as brrr
from brrr_core.engine.calls import EVENT, SLEEP
from brrr_core.engine.local_cache import PreviousRun
from brrr_core.engine.run import Run
from brrr_core.errors import NondeterminismError
from brrr_core.wire import Call
from brrr_simulation.history import Operation
from brrr_simulation.loop import Process
from brrr_simulation.races import Races, RunningCall, running

__all__ = ["Effects", "Watch", "WatchedApp", "effect_name", "name_of"]

SHOWN: Final = 80
"""The most characters of a value in a story."""


class Effects:
    """The effects of handlers outside of brrr: `effects.record("charge", order)`. They survive all simulated crashes.

    Attributes:
        counts: How often each effect took place, by its name and its key.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, object]] = Counter()

    def record(self, name: str, key: object = None) -> None:
        """Record that an effect took place."""
        self.counts[name, key] += 1
        call = running.get(None)
        if isinstance(call, _WatchedCall):
            call.note(f"has {effect_name(name, key)}")


class Watch:
    """Collects what the handlers of one history do.

    Args:
        now: Returns the virtual time.

    Attributes:
        races: The races on the states of its workers.
        story: The runs of handlers and their effects.
        swallowed: The handlers that continued after `Defer`.
        differing: The names of the calls of two runs of one call that made different calls, if there were such runs.
        interrupts: Whether a process dies after a handler has returned.
    """

    interrupts: Callable[[Process, str], bool]

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.races = Races()
        self.story: list[Operation] = []
        self.swallowed: set[str] = set()
        self.differing: tuple[list[str], list[str]] | None = None

    @property
    def wrong(self) -> bool:
        """Whether a fault of a handler has been found."""
        return bool(self.swallowed or self.races.found)


class _WatchedCall(RunningCall):
    """One run of a handler.

    Attributes:
        watch: Its history.
        deferred: The task in which it got `Defer`, in a tuple; None if it did not.
    """

    def __init__(self, text: str, process: Process, watch: Watch) -> None:
        super().__init__(text, process)
        self.watch = watch
        self.deferred: tuple[asyncio.Task[Any] | None] | None = None

    def note(self, text: str) -> None:
        """Add an event to the story."""
        process = cast("Process", self.process)
        if not process.dead:
            self.watch.story.append(Operation(self.watch.now(), process.name, f"{self.text} {text}", ()))


class _WatchedRun(Run):
    """A run that detects a handler that swallows `Defer`: its task then makes more calls, or returns."""

    __slots__ = ()

    async def defer(self) -> None:
        call = cast("_WatchedCall", running.get())
        call.note(f"waits for {', '.join(name_of(child.call) for child in self.missing.values())}"[:SHOWN])
        try:
            await super().defer()
        except brrr.Defer:
            call.deferred = (asyncio.current_task(),)
            raise
        call.note("continues")

    def check(self, previous: PreviousRun | None) -> None:
        try:
            super().check(previous)
        except NondeterminismError:
            watch = cast("Watch", cast("Process", asyncio.get_running_loop()).place)
            if previous is not None and watch.differing is None:
                watch.differing = list(map(name_of, previous.asked)), list(map(name_of, self._asked or ()))
            raise

    async def look_up(self, children: Sequence[Any], *, presume: bool = False) -> list[bytes | None]:
        call = cast("_WatchedCall", running.get())
        if call.deferred == (asyncio.current_task(),):
            call.watch.swallowed.add(self.call.task_name)
        return await super().look_up(children, presume=presume)


class WatchedApp(brrr.AppWorker):
    """An application that reports each run of a handler to a watch."""

    def __init__(self, watch: Watch, **how: Any) -> None:
        super().__init__(**how)
        self._watch = watch

    async def handle(self, run: Run, call: Call) -> bytes:
        """Run the handler of a call."""
        process = cast("Process", asyncio.get_running_loop())
        present = _WatchedCall(name_of(call), process, self._watch)
        run.__class__ = _WatchedRun  # both have the same slots
        token = running.set(present)
        present.note("runs" if run.attempt == 1 else f"runs in attempt {run.attempt}")
        try:
            payload = await super().handle(run, call)
        except brrr.Defer:
            raise
        except BaseException as error:
            present.note(f"raises {error!r:.{SHOWN}}")
            raise
        finally:
            running.reset(token)
        present.note(f"returns {payload!r:.{SHOWN}}")
        if self._watch.interrupts(process, f"after {present.text} returned"):
            await process.create_future()  # it is never set
        if run.missing:
            self._watch.swallowed.add(call.task_name)
        return payload


def effect_name(name: str, key: object) -> str:
    """Return the name of an effect in messages."""
    return f"the effect {name!r}" + ("" if key is None else f" of {key!r}")


def name_of(call: Call) -> str:
    """Return the name of a call in a story: `charge [7]`."""
    if call.task_name == SLEEP:
        return "a sleep"
    return f"{call.task_name.removeprefix(EVENT)} {call.payload.decode(errors='backslashreplace')}"[:SHOWN]
