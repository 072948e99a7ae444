"""Servers that restart, load data, are full or refuse commands: a retry if that is safe, or a clear error."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError
from brrr_redis.client.slots import slot_of
from brrr_testkit.servers.redis import Server, redis_program, valkey_program
from brrr_testkit.waiting import until

TOPIC = "jobs"
VALUE = Key("value", "h")


@pytest.fixture
def server(tmp_path):
    """A server for one test, whose append-only file is synced with every reply."""
    server = Server(valkey_program(), tmp_path / "own", "--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.stop()


async def test_restarts_of_the_server_lose_no_message(server):
    put: list[bytes] = []
    seen: set[bytes] = set()

    async def produce(queue):
        for number in range(400):
            body = b"%d" % number
            await queue.put(TOPIC, [body])
            put.append(body)

    async def consume(queue):
        while len(seen) < 400:
            found = await queue.receive(TOPIC, limit=10, wait=0.5)
            await queue.ack(found)
            seen.update(each.body for each in found)

    async def restart_three_times():
        for number in range(1, 4):
            while len(put) < 100 * number:  # noqa: ASYNC110 - the moment of the crash
                await asyncio.sleep(0.001)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    one, other = (brrr.open_backend(server.url, lease=1) for _ in range(2))
    async with asyncio.timeout(60), one, other, asyncio.TaskGroup() as tasks:
        tasks.create_task(produce(one.queue))
        tasks.create_task(consume(other.queue))
        tasks.create_task(consume(one.queue))
        tasks.create_task(restart_three_times())

    assert set(put) <= seen


async def test_waiting_receive_continues_after_a_restart(server):
    async with brrr.open_backend(server.url) as backend, brrr.open_backend(server.url) as other:
        waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
        await blocked(server)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await other.queue.put(TOPIC, [b"after"])
        async with asyncio.timeout(10):
            assert [each.body for each in await waiting] == [b"after"]


async def blocked(server, number=1):
    await until(lambda: int(server.do("INFO", "clients")["blocked_clients"]) == number)


async def test_unavailable_server_raises_after_retry_for(server):
    async with brrr.open_backend(server.url, retry_for=0.3) as backend:
        await asyncio.to_thread(server.kill)
        with pytest.raises(BackendUnavailableError, match=f"127.0.0.1:{server.port} cannot be reached") as caught:
            await backend.store.read([VALUE])
        assert caught.value.remedy
        assert caught.value.__cause__ is not None


async def test_flushed_scripts_are_sent_again(backend, valkey):
    queue = backend.queue
    for number in range(3):
        await queue.put(TOPIC, [b"%d" % number])
        found = await queue.receive(TOPIC, limit=1, wait=0)
        valkey.do("SCRIPT", "FLUSH")
        await queue.ack(found)
        assert await queue.stats(TOPIC) == (0, 0, 0, 0)


async def test_killed_connections_under_load_lose_no_message(backend, valkey):
    async def work(number):
        key = Key("value", f"h{number}")
        for turn in range(50):
            await backend.store.read([key])
            await backend.queue.put(TOPIC, [b"%d/%d" % (number, turn)])

    async def kill():
        for _ in range(10):
            await asyncio.sleep(0.01)  # any moment
            await asyncio.to_thread(valkey.do, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(work(number))
        tasks.create_task(kill())

    bodies = valkey.do("LRANGE", TOPIC, 0, -1)
    assert set(bodies) == {b"%d/%d" % (number, turn) for number in range(20) for turn in range(50)}


async def test_killed_blocking_connection_is_replaced(backend, valkey):
    waiting = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=60))
    await blocked(valkey)
    valkey.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await blocked(valkey)

    valkey.do("RPUSH", TOPIC, b"x")

    async with asyncio.timeout(5):
        await waiting


async def test_opening_waits_for_a_server_without_free_connections(server):
    with redis.Redis(port=server.port) as only:
        only.config_set("maxclients", 1)
        with pytest.raises(BackendUnavailableError, match="accepts no more connections"):
            await brrr.open_backend(server.url, retry_for=0.1).open()
        backend = brrr.open_backend(server.url)
        opening = asyncio.create_task(backend.open())
        await asyncio.sleep(0.1)  # it is refused in the meantime
        assert not opening.done()
        only.config_set("maxclients", 100)
        async with asyncio.timeout(10):
            await opening
        await backend.close()


async def test_operations_wait_until_a_replica_becomes_the_primary(backend, valkey):
    await backend.queue.put(TOPIC, [b"x"])
    valkey.do("REPLICAOF", "127.0.0.1", 1)
    putting = asyncio.create_task(backend.queue.put(TOPIC, [b"x"]))
    claiming = asyncio.create_task(backend.queue.receive(TOPIC, limit=1, wait=0))
    await asyncio.sleep(0.1)  # they are refused in the meantime
    assert not putting.done()
    assert not claiming.done()
    valkey.do("REPLICAOF", "NO", "ONE")
    async with asyncio.timeout(10):
        await putting
        await claiming


@pytest.mark.parametrize("name", ["valkey", "old_server"])
async def test_replica_that_stays_a_replica_raises(request, name):
    server = request.getfixturevalue(name)
    async with brrr.open_backend(server.url, retry_for=0.1) as backend:
        server.do("REPLICAOF", "127.0.0.1", 1)
        try:
            for operation in (
                backend.queue.put(TOPIC, [b"x"]),
                backend.cache.increment({"brrr_count/r": 1}),
                backend.store.swap([Swap(VALUE, None, b"x")]),
            ):
                with pytest.raises(BackendUnavailableError, match="is a replica"):
                    await operation
        finally:
            server.do("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("name", ["valkey", "old_server"])
async def test_server_at_maxmemory_refuses_new_data_and_can_be_emptied(request, name):
    server = request.getfixturevalue(name)
    server.do("FLUSHALL")
    async with brrr.open_backend(server.url) as backend:
        await backend.queue.put(TOPIC, [b"1", b"2", b"3", b"4"])
        server.do("CONFIG", "SET", "maxmemory", 1)
        try:
            # Existing messages can still be processed.
            one, two, three, four = await backend.queue.receive(TOPIC, limit=4, wait=0)
            await backend.queue.extend([one])
            await backend.queue.ack([two])
            await backend.queue.release([three])
            await backend.queue.bury(four, "x")
            assert await backend.queue.stats(TOPIC) == (1, 1, 0, 1)
            for operation in (
                backend.queue.put(TOPIC, [b"x"]),
                backend.queue.put(TOPIC, [b"x"], delay=1),
                backend.store.write([(VALUE, b"x")]),
                backend.store.swap([Swap(VALUE, None, b"x")]),
            ):
                with pytest.raises(BackendUnavailableError, match="is full"):
                    await operation
        finally:
            server.do("CONFIG", "SET", "maxmemory", 0)


async def test_login_errors_contain_no_credentials(valkey, monkeypatch):
    monkeypatch.setenv("RIGHT", "s3cret")
    monkeypatch.setenv("WRONG", "wr0ng")
    valkey.do("ACL", "SETUSER", "worker", "on", ">s3cret", "~*", "&*", "+@all")
    valkey.do("ACL", "SETUSER", "reader", "on", ">s3cret", "~*", "&*", "+@read", "+client", "+info", "+select")
    place = f"127.0.0.1:{valkey.port}/0"
    async with brrr.open_backend(f"redis://worker@{place}?password_env=RIGHT") as backend:
        await backend.queue.put(TOPIC, [b"x"])
    with pytest.raises(BackendUnavailableError, match="refuses the login") as caught:
        await brrr.open_backend(f"redis://worker@{place}?password_env=WRONG").open()
    assert "wr0ng" not in "".join(traceback.format_exception(caught.value))
    async with brrr.open_backend(f"redis://reader@{place}?password_env=RIGHT") as backend:
        with pytest.raises(BackendError, match="does not permit") as caught:
            await backend.queue.put(TOPIC, [b"x"])
        assert "reader" not in printed(caught.value)
        assert await backend.store.read([VALUE]) == [None]


async def test_missing_login_raises(tmp_path):
    server = Server(valkey_program(), tmp_path / "locked", "--requirepass", "s3cret").start()
    try:
        with pytest.raises(BackendUnavailableError, match="requires a login"):
            await brrr.open_backend(server.url).open()
    finally:
        server.stop()


def printed(error: BaseException) -> str:
    """All text of an error that a log can contain."""
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


@pytest.mark.parametrize("program", [valkey_program, redis_program])
async def test_error_of_a_server_without_auth_contains_no_password(tmp_path, monkeypatch, program):
    monkeypatch.setenv("RIGHT", "s3cret")
    server = Server(program(), tmp_path / "own", "--rename-command", "AUTH", "").start()
    place = f"127.0.0.1:{server.port}"
    try:
        for url in (f"redis://w@{place}?password_env=RIGHT", f"redis+cluster://w@{place}?password_env=RIGHT"):
            with pytest.raises(BackendRefusedError, match="unknown command") as caught:
                await brrr.open_backend(url).open()
            assert "s3cret" not in printed(caught.value)
            assert "args beginning" not in printed(caught.value)
    finally:
        server.stop()


async def test_error_of_a_server_without_scripts_contains_no_body(tmp_path):
    body = b"s3cret"
    server = Server(valkey_program(), tmp_path / "own", "--rename-command", "EVALSHA", "").start()
    try:
        async with brrr.open_backend(server.url) as backend:
            with pytest.raises(BackendError, match="unknown command 'EVALSHA'") as caught:
                await backend.store.swap([Swap(VALUE, None, body)])
            assert "s3cret" not in printed(caught.value)
            assert "args beginning" not in printed(caught.value)
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["valkey", "old_server"])
async def test_error_of_a_forbidden_script_command_contains_no_username(request, name):
    server = request.getfixturevalue(name)
    server.do("SCRIPT", "FLUSH")
    server.do("ACL", "SETUSER", "t0ken", "on", "nopass", "~*", "&*", "+@all", "-zadd")
    try:
        async with brrr.open_backend(f"redis://t0ken:x@127.0.0.1:{server.port}") as backend:
            with pytest.raises(BackendError, match="does not permit a command that brrr needs") as caught:
                await backend.queue.put(TOPIC, [b"x"], delay=1)
    finally:
        server.do("ACL", "DELUSER", "t0ken")
    assert "README.md of brrr-redis" in caught.value.remedy
    assert caught.value.__cause__ is not None
    assert "t0ken" not in printed(caught.value)


async def test_server_of_a_cluster_used_as_a_single_server_raises(whole_cluster):
    whole_cluster.flush()
    here = whole_cluster.servers[0]
    keys = [Key("value", str(number)) for number in range(20)]
    async with brrr.open_backend(here.url) as backend:
        elsewhere = next(key for key in keys if slot_of(b"brrr:value:" + key.call_hash.encode()) > 16384 // 3)
        for asked in ([elsewhere], keys):
            with pytest.raises(BackendError, match=f"127.0.0.1:{here.port} is one server of a cluster") as caught:
                await backend.store.read(asked)
            assert "redis+cluster:" in caught.value.remedy


@asynccontextmanager
async def scripted(answer) -> AsyncIterator[str]:
    """A server that replies to each command with `answer(first word)`."""

    async def serve(reader, writer):
        import hiredis

        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                writer.write(answer(command[0].upper()) if command[0] != b"CLIENT" else b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "says", ["LOADING Redis is loading", "BUSY Redis is busy", "TRYAGAIN x", "NOREPLICAS x", "MASTERDOWN x"]
)
async def test_transient_errors_are_retried(says):
    answers = iter([b"-%s\r\n" % says.encode()] * 3)
    info = b"$20\r\nredis_version:7.0.0\n\r\n"

    def answer(word):
        return info if word == b"INFO" else next(answers, b":1\r\n")

    async with scripted(answer) as url, brrr.open_backend(url) as backend:
        await backend.queue.put(TOPIC, [b"x"])


async def test_opening_waits_while_the_server_loads_its_data():
    answers = iter([b"-LOADING Redis is loading the dataset in memory\r\n"] * 3)

    def answer(word):
        return next(answers, b"$20\r\nredis_version:7.0.0\n\r\n")

    async with scripted(answer) as url, brrr.open_backend(url):
        pass


async def test_server_older_than_6_2_is_refused():
    async with scripted(lambda word: b"$20\r\nredis_version:6.0.9\n\r\n") as url:
        with pytest.raises(BackendError, match=r"6\.0\.9") as caught:
            await brrr.open_backend(url).open()
    assert "6.2" in caught.value.remedy


async def test_silent_server_raises_after_the_timeout(tmp_path):
    def answer(word):
        return b"$20\r\nredis_version:7.0.0\n\r\n" if word == b"INFO" else b""

    async with scripted(answer) as url, brrr.open_backend(url, timeout=0.1, retry_for=0.2) as backend:
        with pytest.raises(BackendUnavailableError, match="no reply within"):
            await backend.store.read([VALUE])
        with pytest.raises(BackendUnavailableError, match="no reply within"):
            await backend.store.swap([Swap(VALUE, None, b"x")])


async def test_invalid_replies_raise():
    def answer(word):
        return b"$20\r\nredis_version:7.0.0\n\r\n" if word == b"INFO" else b"HTTP/1.1 400 Bad Request\r\n"

    async with scripted(answer) as url, brrr.open_backend(url, retry_for=0.2) as backend:
        with pytest.raises(BackendUnavailableError):
            await backend.store.read([VALUE])


async def test_opening_raises_if_other_code_cancels_its_check_of_the_server():
    asked = asyncio.Event()

    def answer(word):
        if word == b"INFO":
            asked.set()
        return b""

    async with scripted(answer) as url:
        before = asyncio.all_tasks()
        opening = asyncio.create_task(brrr.open_backend(url).open())
        await asked.wait()
        checks = [task for task in asyncio.all_tasks() - before if task.get_coro().__name__ == "_info_or_empty"]  # pyright: ignore[reportAttributeAccessIssue] - looks inside
        assert checks
        for task in checks:
            task.cancel()

        with pytest.raises(BackendClosedError, match="cancelled from outside"):
            await opening
