"""Outages of backends: each is reported when it begins and when it ends, regardless of the number of retries."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, ParamSpec, TypeVar

from brrr_core.engine.hooks import Hooks
from brrr_core.errors import BackendUnavailableError
from brrr_core.hooks import BackendLost, BackendRestored
from brrr_core.safe_text import Mask, format_error

__all__ = ["NO_OUTAGES", "ROLES", "Outages"]

ROLES: Final = ("queue", "store", "cache")

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class Outages:
    """Watches the operations of a connection, if a plugin has a hook for outages.

    Args:
        hooks: The plugins.
        mask: Masks the secrets of the backends.
        backends: The name of the backend that is the queue, the store and the cache: a name for its roles.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        hooks: Hooks,
        mask: Mask = str,
        backends: Sequence[str] = ROLES,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hooks = hooks
        self._mask = mask
        self._names = dict(zip(ROLES, backends, strict=True))
        self._clock = clock
        self._wanted = hooks.wants(BackendLost) or hooks.wants(BackendRestored)
        self._lost: dict[str, tuple[float, float]] = {}
        """The times of the first and of the last failure of each outage, by the roles of its backend."""

    def watch(
        self, role: Literal["queue", "store", "cache"], operation: Callable[P, Awaitable[ResultT]]
    ) -> Callable[P, Awaitable[ResultT]]:
        """Return the operation of a role, watched.

        A success ends an outage only if it began after the last failure: a receive may wait for long.
        """
        if not self._wanted:
            return operation
        name = self._names[role]

        async def watched(*args: P.args, **kwargs: P.kwargs) -> ResultT:
            began = self._clock()
            try:
                result = await operation(*args, **kwargs)
            except BackendUnavailableError as error:
                self._failed(name, error)
                raise
            if name in self._lost:
                self._worked(name, began)
            return result

        return watched

    def _failed(self, roles: str, error: BackendUnavailableError) -> None:
        now = self._clock()
        first, _ = self._lost.get(roles, (now, now))
        if roles not in self._lost:
            self._hooks.emit(BackendLost(roles, error, format_error(error, mask=self._mask)))
        self._lost[roles] = first, now

    def _worked(self, roles: str, began: float) -> None:
        first, last = self._lost[roles]
        if began >= last:
            del self._lost[roles]
            self._hooks.emit(BackendRestored(roles, self._clock() - first))


NO_OUTAGES: Final = Outages(Hooks())
"""Watches nothing."""
