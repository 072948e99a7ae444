"""A client of one AWS service: opened once, its requests retried where that is safe, its errors translated."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from io import BytesIO
from typing import Any, Final, Protocol, cast

from aiobotocore.config import AioConfig  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from aiobotocore.session import AioSession  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_aws.backoff import Backoff
from brrr_aws.failures import (
    AnswerLostError,
    Asked,
    AwsRefusal,
    Fate,
    StrangerError,
    answer_of,
    code_of,
    fate_of,
    translated,
)
from brrr_aws.metering import Meter, current_meter
from brrr_aws.place import AwsPlace
from brrr_core.errors import BackendClosedError, BackendUnavailableError

__all__ = ["Answer", "AwsClient"]

Answer = dict[str, Any]
"""What a service says: its JSON, as botocore reads it."""

POOL: Final = 64
"""Connections at most; what is asked for beyond waits for one."""

KEEP: Final = 30
"""Seconds that an idle connection is kept. AWS ends them after a minute, and an end may cross with a request."""


STREAMED: Final = 1 << 20
"""Bytes of a body that aiohttp takes in one piece at most; of a larger one it warns that it holds up the loop."""


class _Events(Protocol):
    def register(self, event: str, handler: Callable[..., None]) -> None: ...


class _Meta(Protocol):
    endpoint_url: str
    region_name: str
    events: _Events


class _Client(Protocol):
    """What is used of aiobotocore's clients. Operations are called by their names, as `BatchGetItem`."""

    meta: _Meta

    def _make_api_call(self, operation: str, parameters: Mapping[str, object]) -> Coroutine[Any, Any, Answer]: ...


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
        self._place = place
        self._subject = subject
        self._missing = missing
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._retry_for = retry_for
        self._where = place.endpoint or place.region or "AWS"
        self._client: _Client | None = None
        self._scope: AbstractAsyncContextManager[_Client] | None = None
        self.meter: Meter | None = None

    async def open(self) -> None:
        """Read the configuration, and make the client. Nothing is asked of the service.

        Raises:
            BackendError: The region, the profile or the configuration is missing or wrong.
        """
        self.meter = current_meter()
        try:
            session = cast("Any", AioSession(profile=self._place.profile))
            # Megabytes of JSON; what is loaded is kept by the session.
            await asyncio.to_thread(_load, session, self.service)
            scope: AbstractAsyncContextManager[_Client] = session.create_client(
                self.service,
                region_name=self._place.region,
                endpoint_url=self._place.endpoint,
                config=self._config(),
            )
            client = await scope.__aenter__()
        except Exception as error:
            raise translated(error, self._asked("")) from error
        client.meta.events.register("before-send", _stream)
        self._client, self._scope, self._where = client, scope, client.meta.endpoint_url

    async def close(self) -> None:
        """Close every connection. Closing what is not open does nothing."""
        scope, self._scope, self._client = self._scope, None, None
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
        return Backoff(self._retry_for)

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
            BackendClosedError: The client is not open.
            BackendError: Any other failure.
        """
        waits = backoff or self.backoff()
        while True:
            try:
                return await self._once(operation, parameters)
            except AwsRefusal:
                raise
            except Exception as error:
                if self._client is None:
                    raise self._closed() from error
                code, fate = code_of(error), fate_of(error)
                if code in told:
                    raise AwsRefusal(code, answer_of(error)) from error
                again = fate is Fate.REFUSED or (fate is Fate.LOST and repeat)
                if again and (patient or code) and await waits.pause():
                    continue
                ours = translated(error, self._asked(operation))
                if fate is Fate.LOST and not isinstance(ours, AnswerLostError) and not repeat:
                    ours = self._lost(ours, operation)
                raise ours from error

    async def _once(self, operation: str, parameters: Mapping[str, object]) -> Answer:
        # It is what the client's methods call, each by its name.
        ask = self._opened()._make_api_call  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if self.meter is not None:
            self.meter.sent(self.service, operation)
        answer = await ask(operation, parameters)
        kind: str = answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", "")
        if "json" not in kind:
            raise StrangerError(kind)
        if self.meter is not None:
            self.meter.answered(operation, answer)
        return answer

    def late(self, operation: str, why: str) -> BackendUnavailableError:
        """The error of an operation that the service did in part, and not wholly within `retry_for`."""
        return BackendUnavailableError(
            f"{self.service} at {self._where} did not get done with {operation} of {self._subject} "
            f"within {self._retry_for:g} s ({why})",
            remedy="Raise the table's or the account's limits, run fewer workers, or raise retry_for.",
        )

    def _opened(self) -> _Client:
        if self._client is None:
            raise self._closed()
        return self._client

    def _closed(self) -> BackendClosedError:
        return BackendClosedError("this backend was closed", remedy="Use it inside `async with`.")

    def _asked(self, operation: str) -> Asked:
        return Asked(self.service, operation, self._where, self._subject, self._missing)

    def _lost(self, error: Exception, operation: str) -> AnswerLostError:
        return AnswerLostError(
            f"{self.service} at {self._where} failed in {operation} of {self._subject} ({error.args[0]})",
            remedy="What was asked for may have been done; look before you ask again.",
        )

    def _config(self) -> AioConfig:
        return AioConfig(
            connect_timeout=self._connect_timeout,
            read_timeout=self._timeout,
            max_pool_connections=self.pool,
            # Ours know what may be done twice; a conditional write that botocore repeats conflicts with itself.
            retries={"mode": "standard", "total_max_attempts": 1},
            parameter_validation=False,
            disable_request_compression=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connector_args={"keepalive_timeout": KEEP},
            # botocore makes its own anew for each request, which is a sixth of what a request costs.
            user_agent=" ".join(f"{name}/{version(name)}" for name in ("brrr-aws", "aiobotocore", "botocore")),
        )


def _stream(request: Any, **_: object) -> None:
    """Send a large body piece by piece."""
    body = request.body
    if isinstance(body, (bytes, bytearray)) and len(body) > STREAMED:
        request.body = BytesIO(body)


def _load(session: Any, service: str) -> None:
    """Have the session's loader read what it reads when a client is made."""
    loader = session.get_component("data_loader")
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model(service, kind)
