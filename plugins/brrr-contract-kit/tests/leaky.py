"""Backends that show the password of their URL wherever they can."""

import logging
from dataclasses import replace

from mutants.kit import MEMORY, CacheOver, MemoryBackend, Sound  # type: ignore[attr-defined]

from brrr_core import register
from brrr_core.backend import BackendUrl, Roles
from brrr_core.errors import BackendRefusedError


def connect(dsn: str) -> None:
    """Fail as a client library that quotes the login."""
    logging.getLogger("client").error("cannot connect to %s", dsn)
    raise OSError(f"cannot connect to {dsn}")


class Leaky(Sound):
    """A backend whose operations raise the password."""

    def __init__(self, url: BackendUrl, options: object) -> None:
        super().__init__(BackendUrl("memory"))
        password = url.password.reveal() if url.password else ""

        class LeakyCache(CacheOver):
            async def increment(self, amounts):
                dsn = f"server={url.hosts} user={url.username} password={password}"
                if amounts:
                    connect(dsn)
                return {}

        self.cache_kind = LeakyCache


class Refused(MemoryBackend):
    """A backend that does not open, and raises the password."""

    def __init__(self, url: BackendUrl, options: object) -> None:
        super().__init__(BackendUrl("memory"))
        self.password = url.password.reveal() if url.password else ""

    async def start(self) -> Roles:
        raise BackendRefusedError(f"{self.password} is wrong", remedy=f"Replace {self.password}.")


for kind in (Leaky, Refused):
    scheme = kind.__name__.lower()
    register(replace(MEMORY, schemes=(scheme,), example=f"{scheme}://h", backend=f"leaky:{kind.__name__}"))
