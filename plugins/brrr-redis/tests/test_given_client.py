"""A redis-py client of the program: brrr connects with its settings, and does not use or close it."""

import traceback
from typing import Any

import pytest
import redis
import redis.asyncio as aioredis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import BlockingConnectionPool, Connection, ConnectionPool
from redis.asyncio.sentinel import Sentinel
from redis.cluster import LoadBalancingStrategy
from redis.credentials import CredentialProvider, StreamingCredentialProvider

import brrr_core as brrr
from brrr_contract_kit import run_contract
from brrr_contract_kit.target import Target
from brrr_core.backend import Backend, Key
from brrr_core.errors import BackendRefusedError, BackendUnavailableError, OptionError
from brrr_testkit.servers.redis import Server, valkey_program, watched_pair

PASSWORD = "hunter2-of-the-client"
VALUE = Key("value", "h")


@pytest.fixture
def account(valkey):
    """A server with a user that has a password."""
    valkey.do("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    yield valkey
    valkey.do("ACL", "DELUSER", "worker")


def connections(server: Server) -> list[dict[str, str]]:
    """The connections of the user to the server."""
    lines = server.do("CLIENT", "LIST").decode().splitlines()
    found = [dict(pair.split("=", 1) for pair in line.split()) for line in lines]
    return [each for each in found if each["user"] == "worker"]


def backend_with(client: object, url: str = "redis:", **options: object) -> Any:
    return brrr.open_backend(url, client=client, **options)


async def carries_operations(backend) -> None:
    """Run operations on the shared connection, and wait for a message on another one."""
    assert await backend.queue.receive("jobs", limit=1, wait=0.1) == []
    await backend.queue.put("jobs", [b"x"])
    (found,) = await backend.queue.receive("jobs", limit=1, wait=1)
    await backend.queue.ack([found])
    await backend.store.write([(VALUE, b"x")])
    assert await backend.store.read([VALUE]) == [b"x"]


async def test_login_database_and_name_of_the_client_are_used(account):
    client = aioredis.Redis(
        port=account.port,
        username="worker",
        password=PASSWORD,
        db=3,
        client_name="billing",
        decode_responses=True,
        protocol=3,
    )
    async with client, backend_with(client, prefix="app:") as backend:
        await carries_operations(backend)
        assert {(each["name"], each["db"]) for each in connections(account)} == {("billing", "3")}
        assert await client.get("brrr:prefix:4:app::brrr:value:h") == "x"


async def test_client_stays_open_and_its_pool_is_not_used(valkey):
    pool = BlockingConnectionPool.from_url(valkey.url, max_connections=1)
    client = aioredis.Redis(connection_pool=pool)
    held = await pool.get_connection()
    async with backend_with(client) as backend:
        await carries_operations(backend)
    await pool.release(held)
    assert await client.get("brrr:value:h") == b"x"
    await client.aclose()
    await pool.aclose()


async def test_credential_provider_is_asked_for_every_connection(account):
    class Rotating(CredentialProvider):
        asked = 0

        def get_credentials(self) -> tuple[str, str]:
            self.asked += 1
            return "worker", PASSWORD

    provider = Rotating()
    client = aioredis.Redis(port=account.port, credential_provider=provider)
    async with client, backend_with(client) as backend:
        await carries_operations(backend)
        assert provider.asked == len(connections(account)) == 2  # one is shared, and one waits for messages


async def test_tls_of_the_client_is_used(tls, tls_port):
    files: Any = {"ssl_ca_certs": str(tls.ca), "ssl_certfile": str(tls.cert), "ssl_keyfile": str(tls.key)}
    async with (
        aioredis.Redis(host="127.0.0.1", port=tls_port, ssl=True, **files) as client,
        backend_with(client) as backend,
    ):
        await carries_operations(backend)
    stranger = aioredis.Redis(host="127.0.0.1", port=tls_port, ssl=True, **files | {"ssl_ca_certs": str(tls.stranger)})
    async with stranger:
        with pytest.raises(BackendUnavailableError, match="certificate verify failed"):
            await backend_with(stranger, retry_for=0.1).open()


async def test_unix_socket_of_the_client_is_used(tmp_path):
    server = Server(valkey_program(), tmp_path, "--unixsocket", str(tmp_path / "r.sock")).start()
    try:
        client = aioredis.Redis(unix_socket_path=str(tmp_path / "r.sock"), db=2)
        async with client, backend_with(client) as backend:
            await carries_operations(backend)
        assert server.do("INFO", "keyspace").keys() == {"db2"}
    finally:
        server.stop()


async def test_sentinels_of_the_client_are_asked_for_the_primary(tmp_path):
    servers = watched_pair(valkey_program(), tmp_path)
    primary, _, watching = servers
    try:
        for server in servers[:2]:
            server.do("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        watching.do("ACL", "SETUSER", "watcher", "on", ">watch", "&*", "+@all")
        sentinel = Sentinel(
            [("127.0.0.1", 1), ("127.0.0.1", watching.port)],
            sentinel_kwargs={"username": "watcher", "password": "watch"},
            username="worker",
            password=PASSWORD,
        )
        client = sentinel.master_for("jobs")
        async with client, backend_with(client) as backend:
            await carries_operations(backend)
            assert len(connections(primary)) == 2
        with pytest.raises(OptionError, match="is for replicas") as caught:
            backend_with(sentinel.slave_for("jobs"))
        assert "master_for" in caught.value.remedy
        for each in sentinel.sentinels:
            await each.aclose()
    finally:
        for server in servers:
            server.kill()


async def test_cluster_of_the_client_is_used(whole_cluster):
    def remap(address: tuple[str, int]) -> tuple[str, int]:
        return "localhost", address[1]

    for server in whole_cluster.servers:
        server.do("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    first = whole_cluster.servers[0]
    client = aioredis.RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", first.port)],
        username="worker",
        password=PASSWORD,
        load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN,
        address_remap=remap,
    )
    try:
        async with backend_with(client) as backend:
            await carries_operations(backend)
            await backend.store.write([(Key("value", str(number)), b"x") for number in range(50)])
            assert all(connections(server) for server in whole_cluster.servers)
            assert {address.host for address in await backend._client.router.primaries()} == {"localhost"}
    finally:
        await client.aclose()
        for server in whole_cluster.servers:
            server.do("ACL", "DELUSER", "worker")


def test_timeouts_of_the_client_are_used_unless_an_option_sets_them():
    client = aioredis.Redis(socket_timeout=3, socket_connect_timeout=2)
    settings = backend_with(client)._given.settings
    assert (settings.timeout, settings.connect_timeout) == (3, 2)

    settings = backend_with(client, timeout="7s", connect_timeout="4s")._given.settings
    assert (settings.timeout, settings.connect_timeout) == (7, 4)

    client = aioredis.Redis(socket_timeout=None, socket_connect_timeout=None)
    settings = backend_with(client)._given.settings
    assert (settings.timeout, settings.connect_timeout) == (10, 5)


class Streaming(StreamingCredentialProvider):
    def get_credentials(self):
        return "worker", PASSWORD

    def on_next(self, callback):
        pass

    def on_error(self, callback):
        pass

    def is_streaming(self):
        return True


class Tunnelled(Connection):
    pass


@pytest.mark.parametrize(
    ("client", "says"),
    [
        (redis.Redis(), "is a redis.client.Redis"),
        (7, "is a builtins.int"),
        (aioredis.Redis(connection_pool=ConnectionPool(connection_class=Tunnelled)), "connections of the class .*Tunn"),
        (aioredis.Redis(redis_connect_func=print), "has a redis_connect_func"),
        (aioredis.Redis(credential_provider=Streaming()), "logs its open connections in again"),
    ],
)
def test_client_with_unsupported_connections_is_refused(client, says):
    with pytest.raises(OptionError, match=says) as caught:
        backend_with(client)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("redis://h", {}, "the URL redis://h describes a connection"),
        ("redis://:hunter3@/", {}, "describes a connection"),
        ("redis+cluster:", {}, "describes a connection"),
        ("redis:?db=3", {}, "the options db describe a connection"),
        ("redis:", {"tls": True, "ca": "x.pem"}, "the options tls, ca describe a connection"),
    ],
)
def test_client_together_with_connection_options_is_refused(url, options, says):
    with pytest.raises(OptionError, match=says) as caught:
        backend_with(aioredis.Redis(), url, **options)
    assert "hunter3" not in str(caught.value)


def test_url_cannot_name_a_client():
    with pytest.raises(OptionError, match="not an object of the program") as caught:
        brrr.open_backend("redis:?client=mine")
    assert "open_backend(URL, client=…)" in caught.value.remedy


async def test_password_of_the_client_is_never_shown(account):
    client = aioredis.Redis(port=account.port, username="worker", password=PASSWORD)
    backend = backend_with(client)
    shown = [repr(backend), repr(backend._options), repr(backend._given), repr(backend.secrets), str(backend._location)]
    assert [each.reveal() for each in backend.secrets] == [PASSWORD]  # dead letters mask them

    account.do("ACL", "SETUSER", "worker", "resetpass", ">another")
    with pytest.raises(BackendRefusedError) as caught:
        await backend.open()
    shown.append("".join(traceback.format_exception(caught.value)))
    assert not any(PASSWORD in each for each in shown)


@pytest.mark.parametrize("rule", ["QUEUE-LEASE-01", "STORE-SWAP-01", "CACHE-COUNT-01", "BACKEND-CLEAN-01"])
def test_rules_hold_with_a_client(account, rule):
    def make(lease: float | None = None) -> Backend:
        client = aioredis.Redis(port=account.port, username="worker", password=PASSWORD)
        return backend_with(client, **({} if lease is None else {"lease": f"{lease}s"}))

    report = run_contract(Target.made_by(make), rules=[rule])
    assert [outcome.status.value for outcome in report.outcomes] == ["passed"], report
