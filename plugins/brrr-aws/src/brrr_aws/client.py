"""Client of one AWS service: retries requests if that is safe, and translates errors."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from random import SystemRandom
from typing import Final

from brrr_aws.client_factory import ClientFactory, RawClient, Response
from brrr_aws.errors import (
    AnswerLostError,
    AwsRefusal,
    RequestContext,
    incomplete_error,
    lost_error,
    translate,
)
from brrr_aws.location import AwsLocation
from brrr_aws.metering import Meter, current_meter
from brrr_aws.outcome import NotAwsError, Outcome, code_of, outcome_of, response_of
from brrr_aws.redaction import public_address, redact
from brrr_core.backend import Gate, closed_error, translating
from brrr_core.errors import BackendUnavailableError, BrrrError

__all__ = ["AwsClient", "Backoff", "Response"]

MAX_CONNECTIONS: Final = 64
"""Most connections of a client. Further requests wait for one."""

FIRST_PAUSE_LIMIT: Final = 0.05
"""Longest first pause, in seconds. The limit doubles with each attempt; the pause is a random part of it."""

PAUSE_LIMIT: Final = 5.0
"""Longest pause, in seconds."""

RANDOM: Final = SystemRandom()


class AwsClient:
    """Client of one service at one location.

    Args:
        service: Name of the service, such as `dynamodb`.
        location: Region, endpoint and profile.
        subject: The part of the service that is used, for error messages, such as `the table jobs`.
        missing: Remedy for a missing subject, in one sentence.
        connect_timeout: Seconds to wait for a connection.
        timeout: Seconds to wait for a response.
        retry_for: Seconds for which a request is retried.
        pool: Most connections.
    """

    def __init__(
        self,
        service: str,
        location: AwsLocation,
        *,
        subject: str,
        missing: str,
        connect_timeout: float,
        timeout: float,
        retry_for: float,
        pool: int = MAX_CONNECTIONS,
    ) -> None:
        self.service = service
        self.pool = pool
        self._factory = ClientFactory(service, location, connect_timeout, timeout, pool)
        self._subject = subject
        self._missing = missing
        self._retry_for = retry_for
        self._address = location.endpoint or location.region or "AWS"
        self._client: RawClient | None = None
        self._closer: AbstractAsyncContextManager[RawClient] | None = None
        self._gate = Gate()
        self.meter: Meter | None = None

    async def open(self) -> None:
        """Read the configuration and create the client. This sends no request to the service.

        Raises:
            BackendError: The region, the profile or the configuration is missing or wrong.
        """
        self.meter = current_meter()
        with translating(Exception, lambda error: translate(error, self._context(""))):
            self._client, self._closer = await self._factory.create()
        self._address = public_address(self._client.meta.endpoint_url)
        self._gate = Gate()

    async def close(self) -> None:
        """End running requests and close all connections. Closing a closed client does nothing."""
        closer, self._closer, self._client = self._closer, None, None
        await self._gate.close()
        if closer is not None:
            await closer.__aexit__(None, None, None)

    @property
    def address(self) -> str:
        """The address of the service."""
        return self._address

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return self._open_client().meta.region_name

    def check_open(self) -> None:
        """Raise `BackendClosedError` if the client is not open."""
        self._open_client()

    def backoff(self) -> "Backoff":
        """Return the pauses for an operation that the caller retries itself."""
        return Backoff(self._retry_for, self._gate)

    async def call(
        self,
        operation: str,
        parameters: Mapping[str, object],
        *,
        idempotent: bool,
        expect: Collection[str] = (),
        retry_outage: bool = True,
        backoff: "Backoff | None" = None,
    ) -> Response:
        """Send a request. Retry it with growing pauses for `retry_for` seconds if that is safe.

        A request that was throttled or never sent had no effect, so it is always safe to retry.

        Args:
            operation: Name of the operation, such as `BatchGetItem`.
            parameters: Its parameters, as AWS' API reference lists them.
            idempotent: Whether the request may take effect twice, so that it is retried if its response is lost.
            expect: Error codes that are raised as `AwsRefusal`.
            retry_outage: Whether to retry if the service cannot be reached.
            backoff: Pauses that the caller shares between several calls.

        Raises:
            AwsRefusal: The service refused with one of the codes in `expect`.
            AnswerLostError: The response was lost, and the request is not idempotent.
            BackendClosedError: The client is not open, or was closed meanwhile.
            BackendError: Any other failure.
        """
        pauses = backoff or self.backoff()
        while True:
            try:
                return await self._call_once(operation, parameters)
            except BrrrError:
                raise
            except Exception as error:
                redact(error)  # it becomes the context of every exception raised here
                if self._client is None:
                    raise closed_error() from error
                code, outcome = code_of(error), outcome_of(error)
                if code in expect:
                    raise AwsRefusal(code, response_of(error)) from error
                safe = outcome is Outcome.NO_EFFECT or (outcome is Outcome.UNKNOWN and idempotent)
                if safe and (retry_outage or code) and await pauses.pause():
                    continue
                ours = translate(error, self._context(operation))
                if outcome is Outcome.UNKNOWN and not isinstance(ours, AnswerLostError) and not idempotent:
                    ours = lost_error(self._context(operation), ours)
                raise ours from error

    async def _call_once(self, operation: str, parameters: Mapping[str, object]) -> Response:
        # All methods of the client, such as `batch_get_item`, call this coroutine.
        send = self._open_client()._make_api_call  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if self.meter is not None:
            self.meter.sent(self.service, operation)
        async with self._gate.enter():
            response = await send(operation, parameters)
        content_type: str = response["ResponseMetadata"]["HTTPHeaders"].get("content-type", "")
        if "json" not in content_type:
            raise NotAwsError(content_type)
        if self.meter is not None:
            self.meter.responded(operation, response)
        return response

    def incomplete_error(self, operation: str, reason: str) -> BackendUnavailableError:
        """Return the error of an operation that succeeded only in part within `retry_for`."""
        return incomplete_error(self._context(operation), self._retry_for, reason)

    def _open_client(self) -> RawClient:
        if self._client is None:
            raise closed_error()
        return self._client

    def _context(self, operation: str) -> RequestContext:
        return RequestContext(self.service, operation, self._address, self._subject, self._missing)


class Backoff:
    """Pauses between the attempts of one operation: random (full jitter), and limited in total time.

    Args:
        within: Seconds after which no attempt follows, counted from the first failure or from the last progress.
        gate: The client's gate. A pause ends when it closes.
    """

    def __init__(self, within: float, gate: Gate) -> None:
        self._within = within
        self._gate = gate
        self._attempts = 0
        self._deadline: float | None = None

    def progressed(self) -> None:
        """Note that a part of the operation succeeded: this restarts the time limit and the pauses."""
        self._attempts, self._deadline = 0, None

    async def pause(self) -> bool:
        """Pause, and return whether there is time for another attempt.

        Raises:
            BackendClosedError: The client was closed.
        """
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._within
        left = self._deadline - now
        if left <= 0:
            return False
        seconds = RANDOM.uniform(0, min(PAUSE_LIMIT, FIRST_PAUSE_LIMIT * 2 ** min(self._attempts, 20)))
        self._attempts += 1
        async with self._gate.enter():
            await asyncio.sleep(min(seconds, left))
        return True
