"""The backend of all schemes. It opens the client, and builds the queue, the store and the cache on it."""

from brrr_core.backend import Backend, BackendUrl, Roles
from brrr_redis.client.client import Client
from brrr_redis.client.cluster import ClusterRouter
from brrr_redis.client.given import GivenClient, read_client
from brrr_redis.client.login import Connector, settings_from_options
from brrr_redis.client.pool import ConnectionPool
from brrr_redis.client.routing import Router, SentinelRouter, SingleServerRouter
from brrr_redis.client.servers import check_servers, describe
from brrr_redis.layout import Layout
from brrr_redis.location import Topology, parse_location
from brrr_redis.notifier import RedisNotifier
from brrr_redis.options import RedisOptions
from brrr_redis.queue import RedisQueue
from brrr_redis.steps import RedisSteps
from brrr_redis.store import RedisCache, RedisStore

__all__ = ["RedisBackend"]


class RedisBackend(Backend):
    """Queue, store and cache on one Redis or Valkey server, on a cluster, or on servers that sentinels watch.

    It keeps one connection to each server, one more for each topic with a waiting receiver, and one to each server with
    values that clients wait for.

    Args:
        url: `redis://HOST:PORT/DATABASE`, or a URL of another scheme of the manifest; `redis:` with a `client`.
        options: Prefix, lease, timeouts, TLS and so on.

    Raises:
        UrlError: The URL does not name servers as its scheme requires.
        OptionError: An option does not fit the scheme, or brrr cannot connect as the option `client` does.
    """

    def __init__(self, url: BackendUrl, options: RedisOptions | None = None) -> None:
        self._url = url
        self._options = RedisOptions() if options is None else options
        self.retry_for = self._options.retry_for
        self._given = None if self._options.client is None else read_client(url, self._options)
        self._location = parse_location(url, self._options) if self._given is None else self._given.location
        self.secrets = () if self._given is None else self._given.secrets

    async def start(self) -> Roles:
        """Connect, and check the version and the eviction policy of the servers."""
        options, layout = self._options, Layout(self._options.prefix)
        client = self._client = self._make_client()
        self.opened.push_async_callback(client.close)
        await client.connect()
        self.warnings = await check_servers(client, str(self._location), evict=options.eviction == "allow")
        ttl, counter_ttl = int((options.ttl or 0) * 1000), int(options.counter_ttl * 1000)
        queue = RedisQueue(client, layout, lease=options.lease, sweep=options.sweep)
        cluster = self._location.topology is Topology.CLUSTER
        steps = None if cluster else RedisSteps(client, layout, queue, ttl=ttl, counter_ttl=counter_ttl)
        store = RedisStore(client, layout, ttl=ttl, notifier=RedisNotifier(client, layout, sharded=cluster))
        self.opened.push_async_callback(store.close)
        self.opened.push_async_callback(queue.close)
        return Roles(queue=queue, store=store, cache=RedisCache(client, layout, ttl=counter_ttl), steps=steps)

    async def setup(self) -> list[str]:
        """Return lines about each primary: its version, and whether it keeps its data. Create nothing.

        Raises:
            BackendError: A server is too old, or evicts data when it is full.
        """
        client = self._make_client()
        try:
            await client.connect()
            return await describe(client, evict=self._options.eviction == "allow")
        finally:
            await client.close()

    def _make_client(self) -> Client:
        return Client(self._make_router(), str(self._location), retry_for=self._options.retry_for)

    def _make_router(self) -> Router:
        given, location = self._given or self._from_url(), self._location
        pool = ConnectionPool(Connector(given.settings))
        if location.topology is Topology.CLUSTER:
            return ClusterRouter(pool, location.addresses, remap=given.remap)
        if given.sentinel_settings is not None:
            sentinel_connector = Connector(given.sentinel_settings)
            return SentinelRouter(pool, location.addresses, location.service, sentinel_connector)
        return SingleServerRouter(pool, location.addresses[0])

    def _from_url(self) -> GivenClient:
        url, options, location = self._url, self._options, self._location
        settings = settings_from_options(
            options, location, username=url.username, password=url.password, database=location.database
        )
        if location.topology is not Topology.SENTINEL:
            return GivenClient(location, settings)
        username, password = options.sentinel_username, options.sentinel_password
        return GivenClient(
            location,
            settings,
            settings_from_options(options, location, username=username, password=password, database=0),
        )
