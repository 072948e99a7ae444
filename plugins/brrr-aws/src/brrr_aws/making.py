"""Makes aiobotocore's client of a service, as brrr wants it: its own retries off, and nothing read twice."""

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from typing import Any, Final, Protocol, cast

from aiobotocore.config import AioConfig  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from aiobotocore.session import AioSession  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from botocore.loaders import create_loader  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_aws.place import AwsPlace

__all__ = ["STREAMED", "Answer", "Maker", "RawClient"]

Answer = dict[str, Any]
"""What a service says: its JSON, as botocore reads it."""

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


class RawClient(Protocol):
    """What is used of aiobotocore's clients. Operations are called by their names, as `BatchGetItem`."""

    meta: _Meta

    def _make_api_call(self, operation: str, parameters: Mapping[str, object]) -> Coroutine[Any, Any, Answer]: ...


@dataclass(frozen=True, slots=True)
class Maker:
    """What a client is made of.

    Attributes:
        service: As in `dynamodb`.
        place: Where it is, and who signs in.
        connect_timeout: Seconds that a connection may take.
        timeout: Seconds that an answer may take.
        pool: Connections at most.
    """

    service: str
    place: AwsPlace
    connect_timeout: float
    timeout: float
    pool: int

    async def make(self) -> tuple[RawClient, AbstractAsyncContextManager[RawClient]]:
        """A client, and what closes it. Raises whatever the client library does."""
        session = cast("Any", AioSession(profile=self.place.profile))
        await asyncio.to_thread(_load, session, self.service)
        scope: AbstractAsyncContextManager[RawClient] = session.create_client(
            self.service,
            # botocore knows AWS_DEFAULT_REGION alone; every other tool of AWS' looks at AWS_REGION first.
            region_name=self.place.region or os.environ.get("AWS_REGION") or None,
            endpoint_url=self.place.endpoint,
            config=self._config(),
        )
        client = await scope.__aenter__()
        client.meta.events.register("before-send", _stream)
        return client, scope

    def _config(self) -> AioConfig:
        return AioConfig(
            connect_timeout=self.connect_timeout,
            read_timeout=self.timeout,
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


@functools.cache
def _loader(folders: str | None) -> Any:
    """What reads AWS' descriptions of its services, and keeps them: megabytes of JSON, the same for every client."""
    return cast("Any", create_loader)(folders)


def _load(session: Any, service: str) -> None:
    """Have the loader read what a client of the service is made of: it takes a thread a while, the first time."""
    loader = _loader(session.get_config_variable("data_path"))
    session.register_component("data_loader", loader)
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model(service, kind)
