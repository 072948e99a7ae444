"""Opening a backend: Unix socket, TLS, database, checks of the server; and the report of `setup`."""

import asyncio
import gc
from contextlib import contextmanager

import pytest
from redis.asyncio.connection import Connection

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.errors import BackendError, BackendRefusedError, BackendUnavailableError
from brrr_redis.client.cluster import ClusterRouter
from brrr_redis.client.login import ConnectionSettings, Connector
from brrr_redis.client.pool import ConnectionPool
from brrr_redis.client.servers import eviction
from brrr_redis.location import Address
from brrr_testkit.faults.relay import RedisProxy, relayed
from brrr_testkit.servers.redis import Server, valkey_program

VALUE = Key("value", "h")


async def test_unix_socket_carries_operations(tmp_path):
    server = Server(valkey_program(), tmp_path, "--unixsocket", str(tmp_path / "r.sock")).start()
    try:
        async with brrr.open_backend(f"redis+unix://{tmp_path}/r.sock?db=2") as backend:
            await backend.store.write([(VALUE, b"x")])
            await backend.queue.put("jobs", [b"x"])
            assert len(await backend.queue.receive("jobs", limit=1, wait=1)) == 1
        assert server.do("INFO", "keyspace").keys() == {"db2"}
        with pytest.raises(BackendUnavailableError, match=r"missing\.sock cannot be reached"):
            await brrr.open_backend(f"redis+unix://{tmp_path}/missing.sock", retry_for=0.1).open()
    finally:
        server.stop()


async def test_databases_are_separate(valkey):
    base = f"redis://127.0.0.1:{valkey.port}"
    async with brrr.open_backend(f"{base}/1") as one, brrr.open_backend(f"{base}/2") as other:
        await one.store.write([(VALUE, b"x")])
        assert await other.store.read([VALUE]) == [None]
    with pytest.raises(BackendRefusedError, match="cannot be reached"):
        await brrr.open_backend(f"{base}/9999").open()


async def test_tls_checks_the_server_and_the_client(tls, tls_port):
    base = f"rediss://127.0.0.1:{tls_port}/0"
    files = {"ca": str(tls.ca), "cert": str(tls.cert), "key": str(tls.key)}
    async with brrr.open_backend(base, **files) as backend:
        await backend.queue.put("jobs", [b"x" * 100_000])
        (found,) = await backend.queue.receive("jobs", limit=1, wait=1)
        assert len(found.body) == 100_000
        assert await backend.queue.receive("jobs", limit=1, wait=0.05) == []
    async with brrr.open_backend(base, cert=files["cert"], key=files["key"], verify=False) as backend:
        await backend.queue.stats("jobs")
    for wrong, says in (
        ({"cert": files["cert"], "key": files["key"]}, "certificate verify failed"),
        ({"ca": files["ca"], "retry_for": 0.1}, None),
        ({"ca": "missing.pem"}, r"missing\.pem of the option ca cannot be read"),
    ):
        with pytest.raises(BackendError, match=says):
            await brrr.open_backend(base, **wrong).open()
    with pytest.raises(BackendUnavailableError):
        await brrr.open_backend(f"redis://127.0.0.1:{tls_port}", retry_for=0.1).open()


@contextmanager
def evicting(server, policy, *, limit=10**9):
    """Make a server evict when it has more than `limit` bytes; 0 means no limit."""
    server.do("CONFIG", "SET", "maxmemory-policy", policy)
    server.do("CONFIG", "SET", "maxmemory", limit)
    try:
        yield
    finally:
        server.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.do("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_server_that_evicts_is_refused(valkey, policy):
    with evicting(valkey, policy):
        for begin in (brrr.open_backend(valkey.url).open, brrr.open_backend(valkey.url).setup):
            with pytest.raises(BackendError, match=f"maxmemory-policy {policy}.* evicts") as caught:
                await begin()
            assert "noeviction" in caught.value.remedy
            assert "eviction=allow" in caught.value.remedy
        allowed = f"{valkey.url}?eviction=allow"
        async with brrr.open_backend(allowed) as backend:
            await backend.queue.put("jobs", [b"x"])
            (warning,) = backend.warnings
            assert "evicts messages and values; eviction=allow permits it" in warning
        assert (await brrr.open_backend(allowed).setup())[1].startswith(f"warning: redis at 127.0.0.1:{valkey.port}")
    with evicting(valkey, policy, limit=0):
        async with brrr.open_backend(valkey.url) as backend:
            await backend.queue.put("jobs", [b"x"])


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_server_that_has_evicted_keys_causes_a_warning(policy):
    info = {"maxmemory_policy": policy, "maxmemory": "0", "evicted_keys": "7"}
    assert eviction(info, "h:1", evict=False).startswith("warning: redis at h:1 has evicted 7 keys since it started; ")
    assert "evicted" not in eviction({**info, "evicted_keys": "0"}, "h:1", evict=False)


async def test_server_that_evicts_nothing_causes_no_warning(valkey):
    async with brrr.open_backend(valkey.url) as backend:
        assert backend.warnings == []


async def test_eviction_is_checked_on_every_server_of_a_cluster(whole_cluster):
    for server in whole_cluster.servers:
        with evicting(server, "allkeys-lfu"):
            with pytest.raises(BackendError, match="maxmemory-policy allkeys-lfu"):
                await brrr.open_backend(whole_cluster.url).open()
            async with brrr.open_backend(f"{whole_cluster.url}?eviction=allow"):
                pass


async def test_server_that_forbids_info_is_opened(valkey):
    valkey.do("ACL", "SETUSER", "quiet", "on", ">pw", "~*", "&*", "+@all", "-info", "-config")
    try:
        with evicting(valkey, "allkeys-lru"):
            url = valkey.url.replace("://", "://quiet:pw@")
            async with brrr.open_backend(url) as backend:
                await backend.queue.put("jobs", [b"x"])
            assert "does not report its maxmemory-policy" in (await brrr.open_backend(url).setup())[1]
    finally:
        valkey.do("ACL", "DELUSER", "quiet")


async def test_opening_sends_info_once(valkey):
    async with relayed(RedisProxy(valkey.port)) as proxy, brrr.open_backend(proxy.url):
        assert [words[0] for words in proxy.commands].count(b"INFO") == 1


async def test_setup_reports_eviction_and_persistence(valkey):
    lines = await brrr.open_backend(valkey.url).setup()

    assert [line.split()[0] for line in lines] == ["Valkey", "maxmemory-policy", "warning:"]
    assert "no save" in lines[2]
    with evicting(valkey, "allkeys-lru", limit=0):
        assert (await brrr.open_backend(valkey.url).setup())[1].startswith("warning")
    valkey.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
    valkey.do("CONFIG", "SET", "save", "60 1")
    assert "save 60 1" in (await brrr.open_backend(valkey.url).setup())[2]
    valkey.do("CONFIG", "SET", "save", "")
    valkey.do("CONFIG", "SET", "appendonly", "yes")
    assert "appendfsync" in (await brrr.open_backend(valkey.url).setup())[2]
    valkey.do("CONFIG", "SET", "appendonly", "no")


async def test_setup_reports_every_primary(whole_cluster):
    lines = await brrr.open_backend(whole_cluster.url).setup()

    heads = [line.split()[-1] for line in lines if line.startswith("Valkey")]
    assert sorted(heads) == sorted(f"127.0.0.1:{server.port}" for server in whole_cluster.servers)
    assert len(lines) == 9
    for server in whole_cluster.servers:
        server.do("CONFIG", "SET", "maxmemory", 10**9)
        server.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(BackendError, match=f"127.0.0.1:{server.port} has maxmemory-policy allkeys-lru"):
                await brrr.open_backend(whole_cluster.url).setup()
        finally:
            server.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
            server.do("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize("topology", ["single", "cluster"])
async def test_failure_after_its_caller_was_cancelled_is_not_logged(valkey, topology):
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    address = Address("127.0.0.1", valkey.port)
    database = 9999 if topology == "single" else 0  # there is no such database, or no cluster
    pool = ConnectionPool(Connector(ConnectionSettings(Connection, {"db": database}, timeout=10, connect_timeout=5)))
    router = ClusterRouter(pool, [address])
    before = asyncio.all_tasks()
    opening = asyncio.create_task(pool.get(address) if topology == "single" else router.address(b"x"))
    await asyncio.sleep(0)
    (failing,) = asyncio.all_tasks() - before - {opening}

    opening.cancel()
    await asyncio.wait({failing, opening})

    assert opening.cancelled()
    assert not failing.cancelled()
    del failing, opening  # the traceback of one refers to the other
    await router.close()
    gc.collect()
    assert complaints == []


async def test_setup_reports_that_a_server_forbids_info_and_config(valkey):
    valkey.do("ACL", "SETUSER", "quiet", "on", "nopass", "~*", "&*", "+@all", "-config", "-info")
    try:
        lines = await brrr.open_backend(f"redis://quiet:x@127.0.0.1:{valkey.port}").setup()
    finally:
        valkey.do("ACL", "DELUSER", "quiet")

    assert "does not report" in lines[0]
    assert all("does not report" in line for line in lines)
