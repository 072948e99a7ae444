"""Streams: created if missing, changed only by setup, refused if they could lose data."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendError
from brrr_testkit.servers.nats import nats_program

nats_program()


def stream_of(url):
    return url.partition("stream=")[2].partition("&")[0]


def config_of(server, name):
    return server.streams()[name]["config"]


async def test_opening_creates_missing_streams(url, shared_server):
    async with brrr.open_backend(url):
        pass
    name = stream_of(url)
    assert config_of(shared_server, name)["retention"] == "workqueue"
    assert config_of(shared_server, f"{name}-dead")["retention"] == "limits"


async def test_setup_reports_created_streams_and_then_existing_ones(url):
    said = await brrr.open_backend(url).setup()
    assert any(f"made the stream {stream_of(url)}," in line for line in said)
    (line,) = await brrr.open_backend(url).setup()
    assert "exist already" in line


async def test_concurrent_opens_create_one_stream(url):
    backends = [brrr.open_backend(url) for _ in range(8)]
    await asyncio.gather(*(backend.open() for backend in backends))
    await asyncio.gather(*(backend.close() for backend in backends))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"retention": "limits"}, "retention"),
        ({"storage": "memory"}, "storage"),
        ({"max_age": 10**12}, "max_age"),
        ({"max_msgs": 1000}, "max_msgs"),
        ({"max_bytes": 10**6}, "max_bytes"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject"),
    ],
)
async def test_stream_that_would_lose_messages_is_refused(url, shared_server, config, said):
    name = stream_of(url)
    subjects = [f"{name}.ready.*", f"{name}.delayed.*.*"]
    wanted = {"retention": "workqueue", "storage": "file", "allow_msg_schedules": True, "allow_direct": True}
    shared_server.do(f"STREAM.CREATE.{name}", {"name": name, "subjects": subjects, **wanted, **config})
    for operation in (brrr.open_backend(url).open, brrr.open_backend(url).setup):
        with pytest.raises(BackendError, match=said) as caught:
            await operation()
        assert caught.value.remedy


async def test_only_setup_makes_lossless_changes(url, shared_server):
    name = stream_of(url)
    config = {"name": name, "subjects": [f"{name}.other"], "retention": "workqueue", "storage": "file"}
    shared_server.do(f"STREAM.CREATE.{name}", config)
    with pytest.raises(BackendError, match="allow_msg_schedules") as caught:
        await brrr.open_backend(url).open()
    assert "setup" in caught.value.remedy
    said = await brrr.open_backend(url).setup()
    assert any(f"changed the stream {name}" in line for line in said)
    async with brrr.open_backend(url) as backend:
        await backend.queue.put("jobs", [b"x"], delay=0.1)
        assert len(await backend.queue.receive("jobs", limit=1, wait=5)) == 1
    assert f"{name}.other" in config_of(shared_server, name)["subjects"]


@pytest.mark.cluster
async def test_only_setup_raises_replicas(shared_cluster, names):
    url = f"{shared_cluster.url}?stream={names}-q&bucket={names}-s"
    try:
        async with brrr.open_backend(url):
            pass
        with pytest.raises(BackendError, match="num_replicas"):
            await brrr.open_backend(f"{url}&replicas=3").open()
        await brrr.open_backend(f"{url}&replicas=3").setup()
        await asyncio.to_thread(shared_cluster.ready)
        async with (
            brrr.open_backend(f"{url}&replicas=3"),
            brrr.open_backend(url),
        ):  # more replicas than required are accepted
            pass
    finally:
        shared_cluster.servers[0].forget(f"{names}-")
