"""The lifespan of test classes: an async context manager that is open during the whole pytest session."""

import asyncio
from asyncio import AbstractEventLoop, Event, get_running_loop
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from threading import Thread
from typing import Any, TypeAlias

from brrr_contract_kit.testbed.checks import described
from brrr_core.errors import ContractError

__all__ = ["Lifespan", "RunningLifespan"]


Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
"""A function that returns the async context manager."""


class RunningLifespan:
    """A lifespan in its own thread and event loop, since each rule has another loop.

    One task enters and leaves the context manager, as task groups and timeouts require.

    Args:
        lifespan: The function of the author.
    """

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan
        self._entered: Future[tuple[AbstractEventLoop, Event, object]] = Future()
        self._exited: Future[None] = Future()
        self._thread = Thread(target=self._run, name="brrr lifespan", daemon=True)

    def start(self) -> object:
        """Enter the context manager, and return its value.

        Raises:
            ContractError: It raised an exception.
        """
        self._thread.start()
        try:
            return self._entered.result()[2]
        except Exception as error:
            raise ContractError(
                f"the lifespan of the test classes raised {described(error)}",
                remedy="Correct it, or start what it needs. No rule was run.",
            ) from error

    def stop(self) -> None:
        """Leave the context manager, and raise its exception. Do nothing if it was not entered."""
        if not self._entered.done() or self._entered.exception() is not None:
            return
        loop, end, _ = self._entered.result()
        loop.call_soon_threadsafe(end.set)
        self._exited.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised by `start` or `stop`
            (self._exited if self._entered.done() else self._entered).set_exception(error)
        else:
            self._exited.set_result(None)

    async def _main(self) -> None:
        async with self._lifespan() as value:
            end = Event()
            self._entered.set_result((get_running_loop(), end, value))
            await end.wait()
