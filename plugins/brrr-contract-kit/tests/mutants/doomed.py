"""Backends that harm the process in which a rule runs. Their manifests are registered like those of `mutants.liars`."""

import asyncio
import os
import time
from dataclasses import replace

from brrr_core.backend import BackendManifest
from mutants.kit import MEMORY, CacheOver, Sound

MANIFESTS: list[BackendManifest] = []

MANY = 500
"""Only CACHE-COUNT-02 increments more counters than this at once. The harm is done in such an increment."""


def by_url(kind: type) -> type:
    """Give a backend class its own scheme."""
    scheme = kind.__name__.lower()
    path = f"mutants.doomed:{kind.__name__}"
    MANIFESTS.append(replace(MEMORY, schemes=(scheme,), example=f"{scheme}:", backend=path))
    return kind


@by_url
class Ends(Sound):
    """Ends its process."""

    class cache_kind(CacheOver):  # noqa: N801 - replaces an attribute of that name
        async def increment(self, amounts):
            if len(amounts) >= MANY:
                os._exit(3)
            return await super().increment(amounts)


@by_url
class Blocks(Sound):
    """Blocks the event loop."""

    class cache_kind(CacheOver):  # noqa: N801 - replaces an attribute of that name
        async def increment(self, amounts):
            if len(amounts) >= MANY:
                time.sleep(600)  # noqa: ASYNC251 - this is the defect
            return await super().increment(amounts)


@by_url
class Prints(Sound):
    """Writes to the standard output."""

    class cache_kind(CacheOver):  # noqa: N801 - replaces an attribute of that name
        async def increment(self, amounts):
            print("from the backend")  # noqa: T201 - this is the defect
            return await super().increment(amounts)


@by_url
class Leaks(Sound):
    """Leaves a task behind."""

    async def start(self):
        self.task = asyncio.create_task(asyncio.sleep(600), name="left behind")
        return await super().start()


@by_url
class Flaky(Sound):
    """Forgets its counters in the third run of the rule, which increments many of them four times."""

    class cache_kind(CacheOver):  # noqa: N801 - replaces an attribute of that name
        runs = 0

        async def increment(self, amounts):
            if len(amounts) >= MANY:
                type(self).runs += 1
                if type(self).runs == 2 * 4 + 1:
                    return dict.fromkeys(amounts, 0)
            return await super().increment(amounts)
