"""Creation of aiobotocore clients: without botocore's retries, and with service models that are read once."""

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

from brrr_aws.location import AwsLocation

__all__ = ["STREAMED_BYTES", "ClientFactory", "RawClient", "Response"]

Response = dict[str, Any]
"""Response of a service: its JSON, as botocore parses it."""

KEEPALIVE: Final = 30
"""Seconds that an idle connection is kept. AWS closes it after 60 s, and a close may cross with a request."""

STREAMED_BYTES: Final = 1 << 20
"""Bytes above which a body is sent in pieces. aiohttp warns that a larger body in one piece blocks the loop."""


class _Events(Protocol):
    def register(self, event: str, handler: Callable[..., None]) -> None: ...


class _Meta(Protocol):
    endpoint_url: str
    region_name: str
    events: _Events


class RawClient(Protocol):
    """The part of aiobotocore's clients that brrr uses. It calls operations by name, such as `BatchGetItem`."""

    meta: _Meta

    def _make_api_call(self, operation: str, parameters: Mapping[str, object]) -> Coroutine[Any, Any, Response]: ...


@dataclass(frozen=True, slots=True)
class ClientFactory:
    """Factory of the clients of one service.

    Attributes:
        service: Name of the service, such as `dynamodb`.
        location: Region, endpoint, and profile or session.
        connect_timeout: Seconds to wait for a connection.
        timeout: Seconds to wait for a response.
        pool: Most connections.
    """

    service: str
    location: AwsLocation
    connect_timeout: float
    timeout: float
    pool: int

    async def create(self) -> tuple[RawClient, AbstractAsyncContextManager[RawClient]]:
        """Return a client and the context manager that closes it. Raise the client library's errors."""
        given = cast("Any", self.location.session)
        # aioboto3 wraps an AioSession, as boto3 wraps botocore's session.
        session: Any = AioSession(profile=self.location.profile) if given is None else getattr(given, "_session", given)
        if given is None:
            session.register_component("data_loader", _shared_loader(session.get_config_variable("data_path")))
        await asyncio.to_thread(_load_models, session.get_component("data_loader"), self.service)
        # botocore reads only AWS_DEFAULT_REGION; all other AWS tools read AWS_REGION first.
        region = os.environ.get("AWS_REGION") or None
        if given is not None:
            region = session.get_config_variable("region") or region
        create = session.create_client if session is given or given is None else given.client
        closer: AbstractAsyncContextManager[RawClient] = create(
            self.service,
            region_name=self.location.region or region,
            endpoint_url=self.location.endpoint,
            config=self._config(),
        )
        client = await closer.__aenter__()
        client.meta.events.register("before-send", _stream)
        return client, closer

    def _config(self) -> AioConfig:
        return AioConfig(
            connect_timeout=self.connect_timeout,
            read_timeout=self.timeout,
            max_pool_connections=self.pool,
            # AwsClient retries what is safe. botocore also repeats conditional writes, which conflict with themselves.
            retries={"mode": "standard", "total_max_attempts": 1},
            parameter_validation=False,
            disable_request_compression=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connector_args={"keepalive_timeout": KEEPALIVE},
            # botocore builds its own user agent for each request, which takes a sixth of the request's CPU time.
            user_agent=" ".join(f"{name}/{version(name)}" for name in ("brrr-aws", "aiobotocore", "botocore")),
        )


def _stream(request: Any, **_: object) -> None:
    """Send a large body in pieces."""
    body = request.body
    if isinstance(body, (bytes, bytearray)) and len(body) > STREAMED_BYTES:
        request.body = BytesIO(body)


@functools.cache
def _shared_loader(folders: str | None) -> Any:
    """Return the loader of service models, shared by all clients: the models are megabytes of JSON."""
    return cast("Any", create_loader)(folders)


def _load_models(loader: Any, service: str) -> None:
    """Load the models of a service. The first time this takes long, so call it in a thread."""
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model(service, kind)
