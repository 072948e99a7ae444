"""A client of one AWS service: opened once, its requests retried where that is safe, its errors translated."""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from brrr_aws.backoff import Backoff
from brrr_aws.cleaning import clean, plain_address
from brrr_aws.failures import AnswerLostError, Asked, AwsRefusal, closed, late, lost, translated
from brrr_aws.fates import Fate, StrangerError, answer_of, code_of, fate_of
from brrr_aws.lifetime import Lifetime
from brrr_aws.making import Answer, Maker, RawClient
from brrr_aws.metering import Meter, current_meter
from brrr_aws.place import AwsPlace
from brrr_core.errors import BackendClosedError, BackendUnavailableError

__all__ = ["Answer", "AwsClient"]

POOL: Final = 64
"""Connections at most; what is asked for beyond waits for one."""


class AwsClient:
    """A client of one service, at one place.

    Args:
        service: As in `dynamodb`.
        place: Where it is, and who signs in.
        subject: What of it is used, for errors: as in `the table jobs`.
        missing: What to do if that is not there, as one sentence.
        connect_timeout: Seconds that a connection may take.
        timeout: Seconds that an answer may take.
        retry_for: Seconds for which a request is tried again that may be.
        pool: Connections at most.
    """

    def __init__(
        self,
        service: str,
        place: AwsPlace,
        *,
        subject: str,
        missing: str,
        connect_timeout: float,
        timeout: float,
        retry_for: float,
        pool: int = POOL,
    ) -> None:
        self.service = service
        self.pool = pool
        self._maker = Maker(service, place, connect_timeout, timeout, pool)
        self._subject = subject
        self._missing = missing
        self._retry_for = retry_for
        self._where = place.endpoint or place.region or "AWS"
        self._client: RawClient | None = None
        self._scope: AbstractAsyncContextManager[RawClient] | None = None
        self._lifetime = Lifetime()
        self.meter: Meter | None = None

    async def open(self) -> None:
        """Read the configuration, and make the client. Nothing is asked of the service.

        Raises:
            BackendError: The region, the profile or the configuration is missing or wrong.
        """
        self.meter = current_meter()
        try:
            self._client, self._scope = await self._maker.make()
        except Exception as error:
            raise translated(error, self._asked("")) from error
        self._where = plain_address(self._client.meta.endpoint_url)
        self._lifetime = Lifetime()

    async def close(self) -> None:
        """End what is under way, and close every connection. Closing what is not open does nothing."""
        scope, self._scope, self._client = self._scope, None, None
        self._lifetime.end()
        if scope is not None:
            await scope.__aexit__(None, None, None)

    @property
    def where(self) -> str:
        """The address of the service."""
        return self._where

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return self._opened().meta.region_name

    def check_open(self) -> None:
        """Raise `BackendClosedError` if the client is not open."""
        self._opened()

    def backoff(self) -> Backoff:
        """The waits between attempts of one operation that the caller repeats itself."""
        return Backoff(self._retry_for, self._lifetime)

    async def call(
        self,
        operation: str,
        parameters: Mapping[str, object],
        *,
        repeat: bool,
        told: Collection[str] = (),
        patient: bool = True,
        backoff: Backoff | None = None,
    ) -> Answer:
        """Ask, and ask again with growing waits where that is safe, for `retry_for` seconds.

        What was refused for want of capacity, or was never sent, was not done, and is asked for again whatever it is.

        Args:
            operation: As in `BatchGetItem`.
            parameters: As in AWS' own manual.
            repeat: Whether to ask again after an answer that was lost, for what may be done twice.
            told: The codes of refusals that are raised as `AwsRefusal`.
            patient: Whether a service that cannot be reached is asked again.
            backoff: The waits, where the caller goes on with them.

        Raises:
            AwsRefusal: One of the codes in `told`.
            AnswerLostError: There is no answer, and `repeat` is not set.
            BackendClosedError: The client is not open, or was closed meanwhile.
            BackendError: Any other failure.
        """
        waits = backoff or self.backoff()
        while True:
            try:
                return await self._once(operation, parameters)
            except BackendClosedError:
                raise
            except Exception as error:
                clean(error)  # whatever is raised in here has it for its context
                if self._client is None:
                    raise closed() from error
                code, fate = code_of(error), fate_of(error)
                if code in told:
                    raise AwsRefusal(code, answer_of(error)) from error
                again = fate is Fate.REFUSED or (fate is Fate.LOST and repeat)
                if again and (patient or code) and await waits.pause():
                    continue
                ours = translated(error, self._asked(operation))
                if fate is Fate.LOST and not isinstance(ours, AnswerLostError) and not repeat:
                    ours = lost(self._asked(operation), ours)
                raise ours from error

    async def _once(self, operation: str, parameters: Mapping[str, object]) -> Answer:
        # It is what the client's methods call, each by its name.
        ask = self._opened()._make_api_call  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if self.meter is not None:
            self.meter.sent(self.service, operation)
        async with self._lifetime.within():
            answer = await ask(operation, parameters)
        kind: str = answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", "")
        if "json" not in kind:
            raise StrangerError(kind)
        if self.meter is not None:
            self.meter.answered(operation, answer)
        return answer

    def late(self, operation: str, why: str) -> BackendUnavailableError:
        """The error of an operation that the service did in part, and not wholly within `retry_for`."""
        return late(self._asked(operation), self._retry_for, why)

    def _opened(self) -> RawClient:
        if self._client is None:
            raise closed()
        return self._client

    def _asked(self, operation: str) -> Asked:
        return Asked(self.service, operation, self._where, self._subject, self._missing)
