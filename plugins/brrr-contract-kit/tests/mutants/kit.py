"""Wrappers around the roles of the memory or SQLite backend. A mutant is a subclass that breaks one in one way."""

import atexit
import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import Any, cast

from brrr_contract_kit.rules import rules_of
from brrr_contract_kit.target import Target
from brrr_contract_kit.testbed.codecs import CodecTarget
from brrr_core import open_backend, register
from brrr_core.backend import (
    BackendManifest,
    BackendUrl,
    Cache,
    DeadLetter,
    Delivery,
    Duration,
    Key,
    Queue,
    QueueStats,
    Reading,
    Received,
    Roles,
    Step,
    Steps,
    Store,
    Swap,
)
from brrr_core.backend.memory import MemoryBackend, MemoryOptions
from brrr_core.codec import Codec
from brrr_core.errors import BackendUnavailableError, CapabilityError, OptionError, RuleBrokenError
from brrr_core.plugins import unregister
from brrr_sqlite.backend import SqliteBackend
from brrr_sqlite.manifest import MANIFEST as SQLITE
from brrr_sqlite.options import SqliteOptions

MEMORY = cast("BackendManifest", open_backend("memory:").manifest)
LEASE = 0.4
GRACE = 1.0
OFFERS: Any = MEMORY  # roles that are certainly offered
NO_DELAY = replace(MEMORY, queue=replace(OFFERS.queue, delay=False))

_names = count()


@dataclass(frozen=True)
class Mutant:
    """A broken backend or codec.

    Attributes:
        name: The name of its class.
        title: Its defect.
        rules: The rules that must fail, all of them.
        target: Makes the target for the kit.
        raises: The error of the failed rule: `RuleBrokenError`, or the mutant's own error if the rule lets it pass.
    """

    name: str
    title: str
    rules: tuple[str, ...]
    target: Callable[[], Target | CodecTarget]
    raises: type[Exception] = RuleBrokenError


MUTANTS: list[Mutant] = []


class QueueOver(Queue):
    """A queue that passes every operation on to another."""

    def __init__(self, inner: Queue) -> None:
        self.inner = inner
        self.lease = inner.lease
        self.letters = inner.letters
        self.inspector = inner.inspector

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        await self.inner.put(topic, bodies, delay=delay)

    async def receive(self, topic: str, *, limit: int, wait: float) -> list[Delivery]:
        return await self.inner.receive(topic, limit=limit, wait=wait)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self.inner.ack(deliveries)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        await self.inner.release(deliveries, delay=delay)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        await self.inner.extend(deliveries)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        await self.inner.bury(delivery, reason)

    async def stats(self, topic: str) -> QueueStats:
        return await self.inner.stats(topic)

    async def dead(self, topic: str, *, limit: int) -> list[DeadLetter]:
        return await self.inner.dead(topic, limit=limit)

    async def redrive(self, topic: str, *, limit: int) -> int:
        return await self.inner.redrive(topic, limit=limit)

    async def drop(self, topic: str, *, limit: int) -> int:
        return await self.inner.drop(topic, limit=limit)


def live(delivery: Delivery) -> bool:
    """Whether the receipt of a delivery, one of the memory queue, is not stale."""
    receipt: Any = delivery.receipt
    return receipt.live


class NoDelay(QueueOver):
    """A queue that does not declare `delay`, and refuses delays."""

    async def put(self, topic: str, bodies: Sequence[bytes], *, delay: float = 0) -> None:
        self._refuse(delay)
        await self.inner.put(topic, bodies)

    async def release(self, deliveries: Sequence[Delivery], *, delay: float = 0) -> None:
        self._refuse(delay)
        await self.inner.release(deliveries)

    def _refuse(self, delay: float) -> None:
        if delay:
            raise CapabilityError("this queue has no delays", remedy="Use another.")


class StoreOver(Store):
    """A store that passes every operation on to another."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.notifier = inner.notifier

    async def read(self, keys: Sequence[Key]) -> list[bytes | None]:
        return await self.inner.read(keys)

    async def write(self, items: Sequence[tuple[Key, bytes]]) -> None:
        await self.inner.write(items)

    async def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        return await self.inner.swap(swaps)


class CacheOver(Cache):
    """A cache that passes every operation on to another."""

    def __init__(self, inner: Cache) -> None:
        self.inner = inner

    async def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        return await self.inner.increment(amounts)


class StepsOver(Steps):
    """Steps that pass every operation on to others; `store` and `cache` are those of the same backend."""

    def __init__(self, inner: Steps, roles: Any) -> None:
        self.inner = inner
        self.store: Store = roles.store
        self.cache: Cache = roles.cache

    async def receive(self, topic: str, *, limit: int, wait: float, readings: Sequence[Reading]) -> list[Received]:
        return await self.inner.receive(topic, limit=limit, wait=wait, readings=readings)

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        return await self.inner.commit(steps, readings=readings)


class NoDelaySteps(StepsOver):
    """Steps that refuse delays."""

    async def commit(self, steps: Sequence[Step], *, readings: Sequence[Reading] = ()) -> list[list[Received] | None]:
        if any(message.delay for step in steps for message in step.messages):
            raise CapabilityError("this queue has no delays", remedy="Use another.")
        return await self.inner.commit(steps, readings=readings)


class Wrapping:
    """The part of a backend class that wraps the roles of the backend that follows it."""

    queue_kind: type[QueueOver] = QueueOver
    store_kind: type[StoreOver] = StoreOver
    cache_kind: type[CacheOver] = CacheOver
    steps_kind: type[StepsOver] = StepsOver

    async def start(self) -> Any:
        roles: Any = await super().start()  # type: ignore[misc]
        return Roles(
            queue=self.queue_kind(roles.queue),
            store=self.store_kind(roles.store),
            cache=self.cache_kind(roles.cache),
            steps=self.steps_kind(roles.steps, roles),
        )


class Sound(Wrapping, MemoryBackend):
    """A backend of wrappers without a defect: it must pass every rule that a mutant fails."""


class SoundFile(Wrapping, SqliteBackend):
    """The same in a file of SQLite."""


@dataclass(frozen=True)
class ElsewhereOptions:
    endpoint: str | None = None


class Elsewhere(MemoryBackend):
    """A sound backend whose option `endpoint` names the server; without it, the host of the URL does."""

    def __init__(self, url: BackendUrl, options: ElsewhereOptions) -> None:
        super().__init__(BackendUrl("memory"))
        ((host, port),) = url.hosts
        if options.endpoint and port:
            raise OptionError(f"the URL {url} and the option both name an endpoint", remedy="Name it once.")
        self.server = f"{host}:{port}" if port else options.endpoint

    async def open(self) -> None:
        if self.server != "127.0.0.1:1":
            raise BackendUnavailableError(f"{self.server} does not answer", remedy="Start the server.")
        await super().open()


def target_of(kind: type[MemoryBackend | SqliteBackend], manifest: BackendManifest) -> Target:
    """Return the target of a backend class, with its own memory space or file."""
    name = f"mutant-{next(_names)}"

    def make(lease: float = 30) -> Any:
        if issubclass(kind, MemoryBackend):
            backend: Any = kind(BackendUrl("memory", path=name), MemoryOptions(Duration(lease)))
        else:
            options = SqliteOptions(lease=Duration(lease))
            backend = kind(BackendUrl("sqlite", path=f"/{_folder()}/{name}.db"), options)
        backend.manifest = manifest
        return backend

    return Target.made_by(make, lease=LEASE, grace=GRACE)


@cache
def _folder() -> str:
    """Return the folder of the files, which is deleted when this process ends."""
    folder = tempfile.mkdtemp(prefix="brrr-mutants-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def sound(manifest: BackendManifest = MEMORY) -> Target:
    """Return the unbroken backend."""
    kind = (
        Sound
        if manifest is MEMORY
        else type("SoundNoDelay", (Sound,), {"queue_kind": NoDelay, "steps_kind": NoDelaySteps})
    )
    return target_of(kind, manifest)


def breaks(
    *rules: str, manifest: BackendManifest = MEMORY, raises: type[Exception] = RuleBrokenError, both: bool = False
) -> Callable[[type], type]:
    """Register a class as a mutant that breaks these rules: a wrapper of one role, a backend, or a codec.

    With `both`, the wrapper is a mutant of the memory backend and one of the SQLite backend.
    """

    def add(kind: type, over: type[Wrapping] = Sound) -> type:
        def target() -> Target | CodecTarget:
            if issubclass(kind, Codec):
                return CodecTarget.of(kind())
            if issubclass(kind, MemoryBackend):
                return target_of(kind, manifest)
            role = next(role for role, base in ROLES.items() if issubclass(kind, base))
            wrapped = cast("type[Sound | SoundFile]", type(kind.__name__, (over,), {f"{role}_kind": kind}))
            return target_of(wrapped, manifest if over is Sound else SQLITE)

        name = kind.__name__ if over is Sound else f"{kind.__name__}OnSqlite"
        MUTANTS.append(Mutant(name, inspect.getdoc(kind) or "", rules, target, raises))
        if both and over is Sound:
            add(kind, SoundFile)
        return kind

    return add


ROLES = {"queue": QueueOver, "store": StoreOver, "cache": CacheOver, "steps": StepsOver}


def applicable(role: str, *, pairs: bool = False) -> int:
    """Count the rules that apply to the memory backend; with `pairs`, to a URL on which two backends share data.

    The rules ANSWER do not apply: they need a server.
    """
    memory = Target.at("memory:")
    rules = [rule for rule in rules_of(role) if not memory.excuse(rule) and not rule.family.endswith("-ANSWER")]
    return len([rule for rule in rules if pairs or not rule.pair])


@contextmanager
def registered(*manifests: BackendManifest) -> Iterator[None]:
    """Register manifests inside the block."""
    for manifest in manifests:
        register(manifest)
    try:
        yield
    finally:
        for manifest in manifests:
            unregister(manifest)
