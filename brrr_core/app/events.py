"""Events of the outside world, as a client sees them."""

from typing import Any

from brrr_core.app.catalogue import Catalogue
from brrr_core.engine.calls import EVENT
from brrr_core.engine.connection import Connection
from brrr_core.engine.failures import failure_by_hand
from brrr_core.errors import NotFoundError
from brrr_core.wire import Call, encode_failure

__all__ = ["Event"]


class Event:
    """An event of the outside world, which handlers await with `app.event`. It happens once.

    Attributes:
        call_hash: Its identity.
    """

    def __init__(self, catalogue: Catalogue, connection: Connection, call: Call) -> None:
        self.call_hash = call.call_hash
        self._catalogue = catalogue
        self._connection = connection
        self._call = call

    async def complete(self, value: object = None) -> bool:
        """Give the event its value, and wake the handlers that wait for it. Repeating it is safe.

        Returns:
            Whether this value became the outcome. If not, the event happened before.

        Raises:
            EncodeError: The value cannot be encoded.
            BackendError: A backend failed; completing it again is safe.
        """
        encoded = await self._catalogue.encode_result(self._call.task_name, value, Any)
        return await self._connection.settle(self.call_hash, encoded)

    async def fail(self, message: str, *, details: object = None) -> bool:
        """Let the event fail: handlers that wait for it get a `CallFailedError`. Repeating it is safe.

        Args:
            message: The reason.
            details: A value for the handlers.

        Returns:
            Whether this failure became the outcome. If not, the event happened before.

        Raises:
            EncodeError: The details cannot be encoded, or are too large.
            BackendError: A backend failed; failing it again is safe.
        """
        name = self._call.task_name
        encoded = None if details is None else await self._catalogue.encode_details(name, details)
        return await self._connection.settle(self.call_hash, encode_failure(failure_by_hand(message, encoded)))

    async def read(self, *, returns: Any = Any) -> Any:
        """Return the value of the event, without waiting.

        Args:
            returns: The type of the value.

        Raises:
            NotFoundError: The event has not happened.
            CallFailedError: It failed.
            ResultDecodeError: The value is not of the type `returns`.
            BackendError: The store failed.
        """
        value = await self._connection.value(self.call_hash)
        if value is None:
            raise NotFoundError(
                f"the event {self._call.task_name.removeprefix(EVENT)!r} has not happened",
                remedy="Complete it with `complete`, or check its name and arguments.",
            )
        return self._catalogue.decode(self._call, value, returns)
