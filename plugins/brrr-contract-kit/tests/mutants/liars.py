"""Mutants that are opened by URL: backends that declare false capabilities, fail badly or show secrets.

Their manifests are registered only during the tests: here by `known`, in other processes by `mutants.registered`.
"""

import asyncio
import atexit
import logging
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from brrr_contract_kit.target import Target
from brrr_core.backend import Backend, BackendManifest, BackendUrl, Roles
from brrr_core.errors import BackendUnavailableError, RuleBrokenError
from mutants.kit import GRACE, LEASE, MEMORY, MUTANTS, OFFERS, MemoryBackend, Mutant, registered  # type: ignore[attr-defined]

MANIFESTS: list[BackendManifest] = []


def known() -> AbstractContextManager[None]:
    """Register the schemes of the mutants inside the block."""
    return registered(*MANIFESTS)


def by_url(
    *rules: str,
    url: str = "{scheme}:x",
    grace: float = GRACE,
    manifest: BackendManifest = MEMORY,
    raises: type[Exception] = RuleBrokenError,
    **changes: Any,
) -> Callable[[type], type]:
    """Register a backend class as a mutant that is opened by URL, under its own scheme."""

    def add(kind: type) -> type:
        scheme = kind.__name__.lower()
        module = f"{kind.__module__}:{kind.__name__}"
        MANIFESTS.append(replace(manifest, schemes=(scheme,), example=f"{scheme}:x", backend=module, **changes))
        address = url.format(scheme=scheme)

        def target() -> Target:
            return Target.at(address, lease=LEASE, grace=grace, preload=("mutants.registered",))

        MUTANTS.append(Mutant(kind.__name__, kind.__doc__ or "", rules, target, raises))
        return kind

    return add


SHARED = replace(OFFERS.queue, shared=True, durable=True)


@by_url("QUEUE-PROC-01", "QUEUE-PROC-02", "QUEUE-PROC-03", "QUEUE-PROC-04", "QUEUE-PROC-05", queue=SHARED)
class SharesNoQueue(MemoryBackend):
    """A queue in the memory of its process declares `shared`."""


@by_url("QUEUE-DURABLE-01", queue=SHARED)
class ForgetsTheQueue(MemoryBackend):
    """A queue in the memory of its process declares `durable`."""


@by_url("QUEUE-DURABLE-02", queue=SHARED, url="{scheme}:")
class ForgetsWhenClosed(MemoryBackend):
    """A queue that loses its messages when closed declares `durable`."""


@by_url(
    *(
        "STORE-RACE-04",
        "STORE-RACE-05",
        "STORE-LINEAR-02",
        "STORE-DURABLE-01",
        "STORE-WATCH-03",
        "STEPS-PROC-01",
        "STEPS-PROC-02",
    ),
    store=replace(OFFERS.store, shared=True, durable=True),
)
class SharesNoStore(MemoryBackend):
    """A store in the memory of its process declares `shared` and `durable`."""


@by_url("CACHE-RACE-03", "CACHE-DURABLE-01", cache=replace(OFFERS.cache, shared=True, durable=True))
class SharesNoCache(MemoryBackend):
    """A cache in the memory of its process declares `shared` and `durable`."""


class _Networked(Backend):
    """Connects to the first host of its URL."""

    def __init__(self, url: Any, options: object) -> None:
        self.url, self.options = url, options

    async def start(self) -> Roles:
        await self.connect(self.url.hosts[0])
        raise AssertionError("no server should answer there")

    async def connect(self, host: tuple[str, int]) -> None:
        self.socket = socket.socket()
        try:
            self.socket.connect(host)
        except OSError as error:
            raise BackendUnavailableError(f"{self.shown()} does not answer", remedy="Start the server.") from error

    def shown(self) -> str:
        return f"{self.url}"

    async def stop(self) -> None:
        self.socket.close()


LISTENING = socket.create_server(("127.0.0.1", 0))
"""A socket that accepts connections while the tests run."""

atexit.register(LISTENING.close)


@by_url("BACKEND-OPEN-10", url=f"{{scheme}}://127.0.0.1:{LISTENING.getsockname()[1]}")
class TriesOnce(_Networked):
    """A backend has `retry_for`, but tries only once to open."""

    retry_for = 5.0

    async def start(self) -> Roles:
        await self.connect(self.url.hosts[0])
        self.inner = MemoryBackend(BackendUrl("memory"))
        return await self.inner.start()

    async def open(self) -> None:
        self.retry_for = 0.0
        await super().open()


@by_url("BACKEND-FAIL-01", url="{scheme}://localhost:9")
class RaisesRaw(_Networked):
    """If a server does not answer, the backend raises the client library's own error."""

    async def connect(self, host: Any) -> None:
        self.socket = socket.socket()
        self.socket.connect(host)


@by_url("BACKEND-FAIL-01", url="{scheme}://localhost:9")
class NamesNoAddress(_Networked):
    """If a server does not answer, the error does not name the server."""

    def shown(self) -> str:
        return "the server"


@by_url("BACKEND-FAIL-02", url="{scheme}://localhost:9")
class LeaksAFailedSocket(_Networked):
    """The socket of a failed opening stays open."""

    kept: ClassVar[list[socket.socket]] = []

    async def stop(self) -> None:
        self.kept.append(self.socket)


@by_url("BACKEND-SECRET-01", url="{scheme}://localhost:9")
class ShowsThePassword(_Networked):
    """An error contains the password."""

    def shown(self) -> str:
        return f"{self.url} with {self.url.password.reveal() if self.url.password else 'no password'}"


@by_url("BACKEND-SECRET-01", url="{scheme}://localhost:9")
class LogsThePassword(_Networked):
    """The log contains the password."""

    def shown(self) -> str:
        logging.getLogger("client").debug("AUTH %s", self.url.password and self.url.password.reveal())
        return f"{self.url}"


@by_url("BACKEND-SECRET-01", url="{scheme}://localhost:9")
class ChainsThePassword(_Networked):
    """The cause of an error contains the password, as a client library wrote it."""

    async def connect(self, host: Any) -> None:
        self.socket = socket.socket()
        try:
            raise OSError(f"no answer for {self.url.password.reveal() if self.url.password else ''}@{host[0]}")
        except OSError as error:
            raise BackendUnavailableError(f"{self.url} does not answer", remedy="Start the server.") from error


@by_url("BACKEND-FAIL-03", url="{scheme}://localhost:9", grace=0.1)
class WaitsForAWord(_Networked):
    """If a server accepts the connection and sends nothing, opening never ends."""

    async def connect(self, host: Any) -> None:
        await super().connect(host)
        await asyncio.sleep(60)


@by_url("QUEUE-LEASE-06")
class IgnoresItsOption(MemoryBackend):
    """The option `lease` changes nothing."""

    def __init__(self, url: Any, options: Any) -> None:
        super().__init__(url)


@dataclass(frozen=True)
class _Divides:
    depth: int = 8

    def __post_init__(self) -> None:
        _ = 100 // self.depth


@by_url("BACKEND-OPTION-01", options=_Divides)
class DividesByItsOption(MemoryBackend):
    """An option out of range raises a ZeroDivisionError."""

    def __init__(self, url: Any, options: Any) -> None:
        super().__init__(url)
