"""Backend class: opens the client and puts the store and the cache on the table."""

import re
from typing import Final

from brrr_aws.client import AwsClient
from brrr_aws.location import parse_location
from brrr_core.backend import Backend, BackendUrl, Roles, shown
from brrr_core.errors import UrlError
from brrr_dynamo.cache import DynamoCache
from brrr_dynamo.item_batches import Table
from brrr_dynamo.options import DynamoOptions
from brrr_dynamo.parts import Parts
from brrr_dynamo.store import DynamoStore
from brrr_dynamo.table_setup import check_table, create_table

__all__ = ["DynamoBackend"]

TABLE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
DEFAULT_TABLE: Final = "brrr"


class DynamoBackend(Backend):
    """Store and cache in one DynamoDB table.

    Args:
        url: `dynamo://TABLE`, or `dynamo://HOST:PORT/TABLE` for an emulator. The default table is `brrr`.
        options: Region, endpoint, profile, times to live, timeouts.

    Raises:
        UrlError: The URL names a table that DynamoDB does not allow.
        OptionError: The region, the profile or the endpoint is malformed.
    """

    def __init__(self, url: BackendUrl, options: DynamoOptions | None = None) -> None:
        self._options = DynamoOptions() if options is None else options
        name, self._location = parse_location(url, self._options)
        self._name = name or DEFAULT_TABLE
        if not TABLE_NAME.fullmatch(self._name):
            raise UrlError(
                f"{shown(self._name)!r} is not a table name",
                remedy="Table names have 3 to 255 letters, digits, '_', '-' and '.'.",
            )
        self.retry_for = self._options.retry_for

    async def start(self) -> Roles:
        """Connect, and check that the table exists and has the right keys."""
        client = self._create_client()
        self.opened.push_async_callback(client.close)
        await client.open()
        await check_table(client, self._name)
        table = Table(client, self._name)
        store = DynamoStore(table, ttl=self._options.ttl or 0)
        self.opened.push_async_callback(store.close)
        return Roles(store=store, cache=DynamoCache(table, ttl=self._options.counter_ttl))

    async def setup(self) -> list[str]:
        """Create the table if it is missing, and remove parts of large values that crashes left behind."""
        client = self._create_client()
        try:
            await client.open()
            report = await create_table(client, self._name)
            removed = await Parts(Table(client, self._name), ttl=0).remove_orphans()
            return [*report, f"removed orphaned parts of {removed} large values"] if removed else report
        finally:
            await client.close()

    def _create_client(self) -> AwsClient:
        options = self._options
        return AwsClient(
            "dynamodb",
            self._location,
            subject=f"the table {self._name}",
            missing="Create it with `brrr setup URL`, with the same URL as here, or correct its name or region.",
            connect_timeout=options.connect_timeout,
            timeout=options.timeout,
            retry_for=options.retry_for,
        )
