"""The backend class: opens a client, and puts the roles on the table."""

import re
from typing import Final

from brrr_aws.client import AwsClient
from brrr_aws.place import place_of
from brrr_core.backend import Backend, BackendUrl, Roles, shown
from brrr_core.errors import UrlError
from brrr_dynamo.batches import Table
from brrr_dynamo.cache import DynamoCache
from brrr_dynamo.options import DynamoOptions
from brrr_dynamo.parts import Parts
from brrr_dynamo.store import DynamoStore
from brrr_dynamo.table import check_table, make_table

__all__ = ["DynamoBackend"]

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
DEFAULT: Final = "brrr"


class DynamoBackend(Backend):
    """Store and cache in one DynamoDB table.

    Args:
        url: `dynamo://TABLE`, or `dynamo://HOST:PORT/TABLE` for an emulator; the table is `brrr` where none is named.
        options: Region, endpoint, profile, how long things are kept, timeouts.

    Raises:
        UrlError: The URL does not name a table as DynamoDB allows.
        OptionError: The region or the endpoint cannot be one.
    """

    def __init__(self, url: BackendUrl, options: DynamoOptions | None = None) -> None:
        self._options = DynamoOptions() if options is None else options
        name, self._place = place_of(url, self._options)
        self._name = name or DEFAULT
        if not NAME.fullmatch(self._name):
            raise UrlError(
                f"{shown(self._name)!r} is no name of a table",
                remedy="Tables have names of 3 to 255 letters, digits, '_', '-' and '.'.",
            )
        self.retry_for = self._options.retry_for
        self._client: AwsClient | None = None

    async def start(self) -> Roles:
        """Connect, and see that the table is there and has the right keys."""
        client = self._client = self._make_client()
        await client.open()
        await check_table(client, self._name)
        table = Table(client, self._name)
        return Roles(
            store=DynamoStore(table, ttl=self._options.ttl or 0),
            cache=DynamoCache(table, ttl=self._options.counter_ttl),
        )

    async def stop(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def setup(self) -> list[str]:
        """Make the table unless it is there, and remove parts of large values that crashes left behind."""
        client = self._make_client()
        try:
            await client.open()
            told = await make_table(client, self._name)
            removed = await Parts(Table(client, self._name), ttl=0).tidy()
            return [*told, f"removed what crashes left of {removed} large values"] if removed else told
        finally:
            await client.close()

    def _make_client(self) -> AwsClient:
        options = self._options
        return AwsClient(
            "dynamodb",
            self._place,
            subject=f"the table {self._name}",
            missing="Make it with `brrr setup URL`, with the URL that you gave here, or correct its name or region.",
            connect_timeout=options.connect_timeout,
            timeout=options.timeout,
            retry_for=options.retry_for,
        )
