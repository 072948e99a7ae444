"""Open and use the backend once before the rules. If that fails, every rule would fail too."""

import asyncio
from asyncio import timeout
from collections.abc import Sequence
from typing import Final

from brrr_contract_kit.registry import Role
from brrr_contract_kit.target import GRACE, Target
from brrr_contract_kit.testbed.checks import described
from brrr_contract_kit.testbed.context import Context
from brrr_contract_kit.testbed.servers import opening_once
from brrr_core.backend import Backend, Swap
from brrr_core.errors import BackendError, BrrrError, ContractError, RuleBrokenError

__all__ = ["preflight"]

LIMIT: Final = 60
"""Seconds for the whole preflight; multiplied, like the limit of a rule, if the grace is longer than its default."""

HINT: Final = "If its tables, streams or folders do not exist yet, create them first: `brrr contract --setup`."


def preflight(target: Target, roles: Sequence[Role], *, setup: bool = False) -> None:
    """Open the backend, compare its roles with the manifest, and use each of these roles once.

    It tries only once, and does not wait for a server that is starting.

    Args:
        target: The backend.
        roles: The roles to test.
        setup: Run its `setup` first.

    Raises:
        BrrrError: The backend's own error, with its remedy, if the server is away, refuses the login or lacks tables.
        ContractError: The backend lacks a role of the manifest.
        RuleBrokenError: Another exception was raised, or it did not end.
    """
    asyncio.run(_preflight(target, roles, setup=setup))


async def _preflight(target: Target, roles: Sequence[Role], *, setup: bool) -> None:
    what = "setting up the backend"
    limit = timeout(LIMIT * max(1.0, target.grace / GRACE))
    try:
        async with limit:
            if setup:
                await target.backend().setup()
            what = "opening the backend"
            async with opening_once(target.backend()) as backend:
                _check_roles(backend, roles)
            what = "using the backend"
            await _use(target, roles)
    except BackendError as error:
        if not setup and type(target.backend()).setup is not Backend.setup:
            error.remedy = f"{error.remedy} {HINT}".lstrip()
        raise
    except BrrrError:
        raise
    except Exception as error:
        if limit.expired():
            raise RuleBrokenError(f"{what} did not end in time", remedy="Give every connection a timeout.") from error
        raise RuleBrokenError(
            f"{what} raised {described(error)}",
            remedy="Correct the backend, or translate the errors of its client library to a BackendError.",
        ) from error


def _check_roles(backend: Backend, roles: Sequence[Role]) -> None:
    for role in roles:
        if role in {"queue", "store", "cache"} and getattr(backend.roles, role) is None:
            raise ContractError(
                f"the manifest declares a {role}, but the open backend offers none",
                remedy=f"Return the {role} from `start`, or remove it from the manifest.",
            )


async def _use(target: Target, roles: Sequence[Role]) -> None:
    """Use each role. Only a `BackendError` counts, for example of a missing table. The rules judge the results."""
    try:
        async with Context(target, "preflight") as ctx:
            backend = await ctx.backend()
            if "queue" in roles:
                topic = ctx.topic()
                await backend.queue.put(topic, [b"preflight"])
                await ctx.take(backend.queue, topic)
            if "store" in roles:
                await backend.store.swap([Swap(ctx.key(), None, b"preflight")])
            if "cache" in roles:
                await backend.cache.increment({ctx.counter(): 1})
    except BackendError:
        raise
    except Exception:  # noqa: BLE001, S110 - the rules report bugs of single operations
        pass
