"""Races on `app.state`: a run overwrites the change of another run that it has not seen, so the change is lost.

Watched are the attributes of objects whose classes belong to the program, and the items of dicts. A race is reported
only if a change was lost in this history, so correct locks cause no report.
"""

import os.path
import sys
import sysconfig
from abc import ABCMeta
from collections import Counter, OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from types import MemberDescriptorType, SimpleNamespace
from typing import Any, Final, NamedTuple, cast

__all__ = ["Races", "RunningCall", "running"]

LIBRARIES: Final = tuple({sysconfig.get_path(name) + os.path.sep for name in ("stdlib", "purelib", "platlib")})
OWN: Final = ("brrr_core", "brrr_simulation", "builtins")
"""Packages whose objects are not watched, wherever they are installed."""

DICTS: Final = (dict, defaultdict, Counter, OrderedDict)
MISSING: Final = object()
_OWN_ITEMS: Final[Any] = dict

Lifespan = Callable[[Any], AbstractAsyncContextManager[object]]


class RunningCall:
    """One run of a handler.

    Args:
        text: The call, for messages.
        process: The process that runs it.
    """

    def __init__(self, text: str, process: object) -> None:
        self.text = text
        self.process = process


running: Final[ContextVar[RunningCall]] = ContextVar("brrr_simulation_running")
"""The current run; unset outside of handlers."""


class _Place(NamedTuple):
    file: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.relpath(self.file)}:{self.line}"


class _Read(NamedTuple):
    value: object
    place: _Place


@dataclass(slots=True)
class _Field:
    """An attribute or an item: its last change, and the value that each run has read."""

    writer: RunningCall | None = None
    place: _Place | None = None
    reads: dict[RunningCall, _Read] = field(default_factory=dict[RunningCall, _Read])


class _Watched(NamedTuple):
    original: object  # kept, so that no other object gets its id
    watched: object
    path: str


class Races:
    """Watches the states of the workers of one history.

    Attributes:
        found: The races, each with its remedy.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._fields: dict[tuple[int, object], _Field] = {}
        self._watched: dict[int, _Watched] = {}
        self._classes: dict[type, type] = {}

    def lifespan(self, make: Lifespan) -> Lifespan:
        """Return a lifespan whose state is watched."""

        @wraps(make)
        @asynccontextmanager
        async def watched(app: Any) -> AsyncGenerator[Any, None]:
            async with make(app) as state:
                yield self.watch(state, "app.state")

        return watched

    def watch(self, value: Any, path: str) -> Any:
        """Return a proxy of a value that records reads and writes; the value itself if it cannot be watched.

        Args:
            value: The value.
            path: Its name in messages.
        """
        kind = _class_of(value)
        if kind not in DICTS and kind is not SimpleNamespace and not _is_of_program(kind):
            return value
        known = self._watched.get(id(value))
        if known is None:
            known = self._watched[id(value)] = _Watched(value, self._stand_in(value, path), path)
        return known.watched

    def _stand_in(self, value: Any, path: str) -> Any:
        kind = _class_of(value)
        if kind in DICTS:
            return _WatchedDict(value, self, path)
        if kind is SimpleNamespace:
            return _watched_class(kind, self, value)(**vars(value))
        watched = self._classes.get(kind)
        if watched is None:
            watched = self._classes[kind] = _watched_class(kind, self)
        with suppress(TypeError):  # a class of C, or one with special slots
            value.__class__ = watched
        return value

    def path(self, holder: object) -> str:
        """Return the path of an object, for messages."""
        return self._watched[id(holder)].path

    def read(self, holder: object, name: object, value: Any, path: str) -> Any:
        """Record that a run reads a value. Return its proxy."""
        call = running.get(None)
        if call is not None:
            known = self._field(holder, name)
            known.reads[call] = _Read(value, _place())
        return self.watch(value, path)

    def wrote(self, holder: object, name: object, before: object, after: object, path: str) -> None:
        """Record that a value was changed. If that overwrites a change that the run has not seen, report the race."""
        if _same(before, after):
            return
        known, call, place = self._field(holder, name), running.get(None), _place()
        read, other = None if call is None else known.reads.get(call), known.writer
        if (
            call is not None
            and read is not None
            and read.value is not None  # both runs may set a missing value
            and read.value is not MISSING
            and other is not None
            and other is not call
            and other.process is call.process
            and not _same(read.value, before)
        ):
            self.found.append(
                f"two calls on one worker race for `{path}`: `{call.text}` read {read.value!r} ({read.place}), then "
                f"`{other.text}` {_changed(before)} ({known.place}), and then the first call {_changed(after)} "
                f"({place}), so the change of the second is lost. Read and write `{path}` without an `await` "
                "between them, or hold an `asyncio.Lock` of the state around both"
            )
        known.writer, known.place = call, place

    def _field(self, holder: object, name: object) -> _Field:
        return self._fields.setdefault((id(holder), name), _Field())


class _WatchedDict(MutableMapping[Any, Any], dict[Any, Any]):  # type: ignore[metaclass, misc] # they go together
    """A proxy of a dict. It also holds the items, because C functions read a dict directly."""

    def __init__(self, target: dict[Any, Any], races: Races, path: str) -> None:
        _OWN_ITEMS.__init__(self, target)
        self._target = target
        self._races = races
        self._path = path

    def __getitem__(self, key: Any) -> Any:
        path = f"{self._path}[{key!r}]"
        try:
            value = self._target[key]
        except KeyError:
            self._races.read(self._target, key, MISSING, path)
            raise
        return self._races.read(self._target, key, value, path)

    def __setitem__(self, key: Any, value: Any) -> None:
        before = self._target.get(key, MISSING)
        self._target[key] = value
        _OWN_ITEMS.__setitem__(self, key, value)
        self._races.wrote(self._target, key, before, value, f"{self._path}[{key!r}]")

    def __delitem__(self, key: Any) -> None:
        before = self._target[key]
        del self._target[key]
        _OWN_ITEMS.pop(self, key, None)
        self._races.wrote(self._target, key, before, MISSING, f"{self._path}[{key!r}]")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._target)

    def __len__(self) -> int:
        return len(self._target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def _watched_class(base: Any, races: Races, stands_for: object = None) -> Any:
    """Return a class whose objects record the reads and writes of their attributes.

    Args:
        base: The class to derive it from.
        races: Records them.
        stands_for: The object that its objects replace; None if they have their own attributes.
    """
    slots = {
        name
        for each in cast("type[Any]", base).__mro__
        for name, value in vars(each).items()
        if isinstance(value, MemberDescriptorType)
    }

    def held(target: Any, name: str) -> Any:
        """Return the value of an attribute; MISSING if the object itself does not hold it."""
        try:
            return object.__getattribute__(target, name) if name in slots else target.__dict__.get(name, MISSING)
        except AttributeError:  # an empty slot, or an object that has slots only
            return MISSING

    class Watched(base):  # type: ignore[misc]
        __slots__ = ()
        brrr_watched_class = base

        def __getattribute__(self, name: str) -> Any:
            if name == "__class__":
                return base
            target = self if stands_for is None else stands_for
            value = base.__getattribute__(target, name)
            if name.startswith("__") or held(target, name) is MISSING:
                return value
            return races.read(target, name, value, f"{races.path(target)}.{name}")

        def __setattr__(self, name: str, value: object) -> None:
            target = self if stands_for is None else stands_for
            before = held(target, name)
            base.__setattr__(target, name, value)
            after = held(target, name)
            if after is not MISSING:  # otherwise it is a property, whose function writes another attribute
                races.wrote(target, name, before, after, f"{races.path(target)}.{name}")

        def __delattr__(self, name: str) -> None:
            target = self if stands_for is None else stands_for
            before = held(target, name)
            base.__delattr__(target, name)
            races.wrote(target, name, before, MISSING, f"{races.path(target)}.{name}")

    Watched.__name__, Watched.__qualname__, Watched.__module__ = base.__name__, base.__qualname__, base.__module__
    return Watched


def _class_of(value: object) -> Any:
    """Return the class of an object, even if an earlier history has replaced it."""
    return getattr(type(value), "brrr_watched_class", type(value))


def _same(one: object, other: object) -> bool:
    try:
        return one is other or (type(one) is type(other) and bool(one == other))
    except Exception:  # noqa: BLE001 - values of the program, such as arrays
        return False


def _changed(value: object) -> str:
    return "removed it" if value is MISSING else f"wrote {value!r}"


@lru_cache(maxsize=1024)
def _is_of_program(kind: type) -> bool:
    """Whether a class belongs to the program, and a derived class can watch its objects."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return (
        kind.__module__.partition(".")[0] not in OWN
        and not file.startswith(LIBRARIES)
        and type(kind) in (type, ABCMeta)
        and "__init_subclass__" not in {name for each in kind.__mro__[:-1] for name in vars(each)}
    )


def _place() -> _Place:
    """Return the line of the program that reads or writes."""
    frame = sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # as `logging` does
    while frame.f_back is not None and frame.f_code.co_filename in _NOT_OF_PROGRAM:
        frame = frame.f_back
    return _Place(frame.f_code.co_filename, frame.f_lineno)


_NOT_OF_PROGRAM: Final = (__file__, Mapping[str, int].get.__code__.co_filename)
