"""The permissions in README.md are sufficient, and each of them is needed."""

import re
from pathlib import Path

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendError
from brrr_testkit.faults.relay import NatsProxy, relayed
from brrr_testkit.servers.nats import Server, nats_program
from brrr_testkit.workloads.fleet import serving
from brrr_testkit.workloads.load import HANDLERS, RESULT, fan_out

nats_program()

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCK = README.partition("## Permissions")[2].partition("```\n")[2].partition("```")[0]
VALUE, PENDING = Key("value", "h"), Key("pending_returns", "h")
LARGE = bytes(1_500_000)
STREAMS = ("brrr", "brrr-dead", "KV_brrr", "brrr-counters")


def published(role):
    """Return the subjects that a role may publish to."""
    listed = BLOCK.partition(f"{role}: {{")[2].partition("publish: [")[2].partition("]")[0]
    return re.findall(r'"(\S+)"', listed)


def matches(pattern, subject):
    """Whether a subject matches a pattern."""
    words, tokens = pattern.split("."), subject.split(".")
    if words[-1] == ">":
        words.pop()
        if len(tokens) <= len(words):
            return False
        tokens = tokens[: len(words)]
    return len(words) == len(tokens) and all(word in {"*", token} for word, token in zip(words, tokens, strict=True))


def unused(role, subjects):
    """Return the permissions of a role that were not used."""
    return [pattern for pattern in published(role) if not any(matches(pattern, subject) for subject in subjects)]


@pytest.fixture
async def guarded(tmp_path, monkeypatch):
    """A proxy before a server with the users and permissions of README.md."""
    monkeypatch.setenv("WORKER_PASSWORD", "w0rk")
    monkeypatch.setenv("SETUP_PASSWORD", "s3t")
    monkeypatch.setenv("ADMIN", "adm")
    block = BLOCK.replace("users: [", "users: [ { user: admin, password: $ADMIN }")
    server = Server(tmp_path / "own", config=block, sync=False).start()
    try:
        async with relayed(NatsProxy(server.port)) as proxy:
            yield server, proxy
    finally:
        server.kill()


def do(server, subject, body=None):
    """Call JetStream's API as an administrator."""
    return server.do(subject, body, user="admin", **{"pass": "adm"})


async def use_the_queue(queue):
    await queue.put("jobs", [b"1", b"2", b"3"])
    await queue.put("jobs", [b"4"], delay=0.1)
    one, two, three = [await take_one(queue) for _ in range(3)]
    await queue.extend([one])
    await queue.ack([one])
    await queue.release([two])
    await queue.bury(three, "why")
    assert [letter.reason for letter in await queue.dead("jobs", limit=5)] == ["why"]
    assert await queue.redrive("jobs", limit=5) == 1
    await queue.bury(await take_one(queue), "again")
    assert await queue.drop("jobs", limit=5) == 1
    for _ in range(2):
        await queue.ack([await take_one(queue)])
    assert sum(await queue.stats("jobs")) == 0


async def take_one(queue):
    (delivery,) = await queue.receive("jobs", limit=1, wait=10)
    return delivery


async def use_the_store(store):
    await store.write([(VALUE, LARGE)])
    assert await store.read([VALUE]) == [LARGE]
    assert await store.swap([Swap(PENDING, None, b"x"), Swap(VALUE, LARGE, b"x")]) == [True, True]
    assert await store.swap([Swap(PENDING, b"x", None), Swap(VALUE, b"x", None)]) == [True, True]


async def test_worker_needs_exactly_the_listed_permissions(guarded):
    server, proxy = guarded
    worker = f"nats://worker:w0rk@{proxy.place}"
    await brrr.open_backend(f"nats://setup:s3t@{server.place}").setup()

    async with brrr.open_backend(worker) as backend:
        await use_the_queue(backend.queue)
        await use_the_store(backend.store)
        assert await backend.cache.increment({"a": 2}) == {"a": 2}
    async with serving(worker, HANDLERS) as fleet:
        assert await fleet.run(fan_out, 1) == RESULT
    config = do(server, "STREAM.INFO.KV_brrr")["config"]
    do(server, "STREAM.UPDATE.KV_brrr", {**config, "allow_direct": False})  # like a bucket with replicas
    async with brrr.open_backend(worker) as backend:
        await use_the_store(backend.store)

    assert unused("BRRR_WORKER", proxy.subjects) == []


async def test_worker_may_not_create_streams_and_its_error_recommends_setup(guarded):
    server, _ = guarded

    with pytest.raises(BackendError, match="does not permit this user to create it") as caught:
        await brrr.open_backend(f"nats://worker:w0rk@{server.place}").open()
    assert "brrr setup" in caught.value.remedy


@pytest.mark.parametrize("direct", [True, False])
async def test_setup_needs_exactly_the_listed_permissions(guarded, direct):
    server, proxy = guarded
    setup = f"nats://setup:s3t@{proxy.place}"
    assert len(await brrr.open_backend(setup).setup()) == len(STREAMS)
    async with brrr.open_backend(f"nats://worker:w0rk@{server.place}") as backend:
        await backend.store.write([(VALUE, LARGE)])
        await backend.store.write([(VALUE, b"small")])
    changes = {
        "brrr": {"allow_direct": False},
        "KV_brrr": {"allow_atomic": False, "allow_direct": direct},
        "brrr-counters": {"max_age": 10**12},
    }
    for name, change in changes.items():
        config = do(server, f"STREAM.INFO.{name}")["config"]
        assert "error" not in do(server, f"STREAM.UPDATE.{name}", {**config, **change})

    said = await brrr.open_backend(setup).setup()

    assert sum("changed the stream" in line for line in said) == 3
    assert any("removed 3 parts" in line for line in said)
    other = "$JS.API.STREAM.MSG.GET.KV_brrr" if direct else "$JS.API.DIRECT.GET.KV_brrr.>"
    assert unused("BRRR_SETUP", proxy.subjects) == [other]


async def test_denied_pull_raises(guarded):
    server, _ = guarded
    await brrr.open_backend(f"nats://setup:s3t@{server.place}").setup()
    server.reload(server.config.replace('"$JS.API.CONSUMER.MSG.NEXT.brrr.*", ', ""))

    async with brrr.open_backend(f"nats://worker:w0rk@{server.place}?retry_for=1s") as backend:
        with pytest.raises(BackendError, match=r"does not permit the subject \$JS\.API\.CONSUMER\.MSG\.NEXT"):
            await backend.queue.receive("jobs", limit=1, wait=30)
