"""The dead letters of a topic, for clients: choose and read them, and redrive, drop or complete them by hand."""

from asyncio import gather
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import chain
from typing import NamedTuple

from brrr_core.app.catalogue import Catalogue
from brrr_core.backend.inspection import LetterBox
from brrr_core.engine.connection import Connection
from brrr_core.engine.failures import failure_by_hand
from brrr_core.engine.letters import Letter, LetterChoice, LetterSearch, ids_of
from brrr_core.errors import MalformedRecordError
from brrr_core.wire import FAILURE_PREFIX, encode_failure

__all__ = ["Completed", "LetterSelection"]


class Completed(NamedTuple):
    """The result of completing dead letters by hand.

    Attributes:
        completed: The number of dead letters whose calls have their outcome now. They were dropped.
        kept: The number of dead letters that stay: the call cannot be read, or has already failed for good.
    """

    completed: int
    kept: int


class LetterSelection:
    """A choice of dead letters of one topic: `async for letter in client.dead_letters("demo", task=fib): ...`.

    Each use searches the topic again, page by page and oldest first. It ignores dead letters that are added during the
    search, and skips those that others redrive or drop. Every operation may be repeated.
    """

    def __init__(
        self, catalogue: Catalogue, connection: Connection, topic: str, choice: LetterChoice, limit: int | None
    ) -> None:
        self._catalogue = catalogue
        self._connection = connection
        self._search = LetterSearch(connection.queue, topic, choice, limit=limit, read=connection.read)

    async def __aiter__(self) -> AsyncGenerator[Letter, None]:
        """Yield the dead letters.

        Raises:
            CapabilityError: They are chosen by ids, and the queue cannot tell its dead letters apart.
            BackendError: A backend failed.
        """
        async for page in self._search.pages():
            for letter in page:
                yield letter

    async def read(self) -> list[Letter]:
        """Return the dead letters. All of them are in memory: pass `limit` to `dead_letters`.

        Raises:
            CapabilityError: They are chosen by ids, and the queue cannot tell its dead letters apart.
            BackendError: A backend failed.
        """
        return list(chain.from_iterable([page async for page in self._search.pages()]))

    async def redrive(self, *, failed: bool = False) -> int:
        """Put the dead letters back on their topic as new messages. Return their number.

        Args:
            failed: First delete the failures of their calls. Otherwise a call that failed for good does not run again.

        Raises:
            CapabilityError: They are only some of the topic, and the queue cannot tell its dead letters apart.
            BackendError: A backend failed. Repeating it is safe.
        """
        if not failed:
            return await self._search.redrive()
        return await self._search.act(
            # By ids if possible: others may take the oldest ones meanwhile, and the failures of the next are not back.
            self._connection.redrive if self._connection.queue.letters is None else None,
            lambda box, letters: self._connection.redrive_letters(box, self._search.topic, letters),
        )

    async def drop(self) -> int:
        """Delete the dead letters for good. Return their number. Calls that wait for theirs keep waiting.

        Raises:
            CapabilityError: They are only some of the topic, and the queue cannot tell its dead letters apart.
            BackendError: A backend failed. Repeating it is safe.
        """
        return await self._search.drop()

    async def complete(self, value: object) -> Completed:
        """Give the calls of the dead letters this result, wake their callers, and drop the dead letters.

        If a call has a result already, the first one stays. If it failed for good, its dead letter stays.

        Raises:
            EncodeError: The value cannot be encoded, or does not match the annotation of a handler.
            CapabilityError: The queue cannot tell its dead letters apart.
            BackendError: A backend failed. Repeating it is safe.
        """

        async def encoded(task_name: str) -> bytes:
            _, _, returns = self._catalogue.resolve(task_name)
            return await self._catalogue.encode_result(task_name, value, returns)

        return await self._settle(encoded)

    async def fail(self, message: str, *, details: object = None) -> Completed:
        """Let the calls of the dead letters fail for good, wake their callers, and drop the dead letters.

        Args:
            message: The reason.
            details: A value for the callers.

        Raises:
            EncodeError: The details cannot be encoded, or are too large.
            CapabilityError: The queue cannot tell its dead letters apart.
            BackendError: A backend failed. Repeating it is safe.
        """

        async def encoded(task_name: str) -> bytes:
            given = None if details is None else await self._catalogue.encode_details(task_name, details)
            return encode_failure(failure_by_hand(message, given))

        return await self._settle(encoded)

    async def _settle(self, encoded: Callable[[str], Awaitable[bytes]]) -> Completed:
        kept = 0

        async def settle(box: LetterBox, letters: Sequence[Letter]) -> int:
            nonlocal kept
            records = {name: await encoded(name) for name in {each.task_name for each in letters} if name is not None}
            settling = [
                (letter, self._settled(letter.call_hash, records[letter.task_name]))
                for letter in letters
                if letter.call_hash is not None and letter.task_name is not None
            ]
            # Together: their operations share batches.
            settled = await gather(*(settled for _, settled in settling), return_exceptions=True)
            done = ids_of([letter for (letter, _), there in zip(settling, settled, strict=True) if there is True])
            kept += len(letters) - len(done)
            # Dropped last: if this program dies before, repeating the action finds the outcome and drops them.
            await box.drop(self._search.topic, done)
            for error in settled:
                if isinstance(error, BaseException) and not isinstance(error, MalformedRecordError):
                    raise error
            return len(done)

        return Completed(await self._search.act(None, settle), kept)

    async def _settled(self, call_hash: str, record: bytes) -> bool:
        """Settle a call. Return whether it now has an outcome of the wanted kind, so that its dead letter can go."""
        if await self._connection.settle(call_hash, record):
            return True
        outcome = await self._connection.value(call_hash)
        return outcome is not None and (record.startswith(FAILURE_PREFIX) or not outcome.startswith(FAILURE_PREFIX))
