"""The store's bucket: other clients, other configurations, and changes of the stream under a running store."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from nats_roles import forbid_direct, opened

from brrr_core.backend import Key, Swap
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_nats.client.messages import Request
from brrr_nats.client.requests import RequestClient
from brrr_testkit.faults.relay import NatsProxy, relayed
from brrr_testkit.servers.nats import Server
from brrr_testkit.waiting import until

CALL, VALUE, PENDING = Key("call", "h"), Key("value", "h"), Key("pending_returns", "h")
MARKER = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}


async def stream(client: RequestClient, bucket: str, **config: Any) -> None:
    """Create a stream, as another tool does."""
    made = {
        "name": f"KV_{bucket}",
        "subjects": [f"$KV.{bucket}.>"],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
    }
    await client.call_api(f"STREAM.CREATE.KV_{bucket}", {**made, **config})


async def put(
    client: RequestClient, bucket: str, key: str, value: bytes = b"", headers: dict[str, str] | None = None
) -> None:
    """Put as `nats kv put` does, or write a marker as `nats kv purge` and `nats kv del` do."""
    (reply,) = await client.request_many([Request(f"$KV.{bucket}.{key}", value, headers)])
    assert "error" not in json.loads(reply.payload)


async def test_opening_reads_each_existing_stream_once(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=bucket):
        pass
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket):
        assert proxy.subjects == [f"$JS.API.STREAM.INFO.{name}" for name in (f"KV_{bucket}", f"{bucket}-counters")]


@pytest.mark.parametrize("operation", ["PURGE", "DEL"])
async def test_changes_by_other_clients_are_seen(server: Server, bucket: str, operation: str) -> None:
    async with opened(server.url, bucket=bucket) as roles:
        await put(roles.client, bucket, "pending_returns.h", b"theirs")
        assert await roles.store.read([PENDING]) == [b"theirs"]

        headers = MARKER if operation == "PURGE" else {"KV-Operation": "DEL"}
        await put(roles.client, bucket, "pending_returns.h", headers=headers)

        assert await roles.store.swap([Swap(PENDING, b"theirs", b"x")]) == [False]
        assert await roles.store.read([PENDING]) == [None]
        assert await roles.store.swap([Swap(PENDING, None, b"ours")]) == [True]


async def test_bucket_without_expiring_markers_is_changed_only_by_setup(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=f"{bucket}x") as other:
        await stream(other.client, bucket)
        await put(other.client, bucket, "value.h", b"there")

    with pytest.raises(BackendError, match="allow_msg_ttl") as caught:
        async with opened(server.url, bucket=bucket):
            pass
    assert "brrr setup" in caught.value.remedy

    async with opened(server.url, bucket=bucket, setup=True) as roles:
        assert await roles.store.swap([Swap(VALUE, b"there", None)]) == [True]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"max_msgs_per_subject": 5}, "5 revisions"),
        ({"max_msgs_per_subject": -1}, "-1 revisions"),
        ({"discard": "old", "max_bytes": 1_000_000}, "max_bytes"),
        ({"storage": "memory"}, "memory"),
    ],
)
@pytest.mark.parametrize("setup", [False, True])
async def test_bucket_that_would_lose_records_is_refused(
    server: Server, bucket: str, config: dict[str, Any], said: str, setup: bool
) -> None:
    async with opened(server.url, bucket=f"{bucket}x") as other:
        await stream(other.client, bucket, **config)

    with pytest.raises(BackendError, match=said) as caught:
        async with opened(server.url, bucket=bucket, setup=setup):
            pass
    assert caught.value.remedy


async def test_full_bucket_raises(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=f"{bucket}x") as other:
        await stream(other.client, bucket, max_bytes=10_000, allow_msg_ttl=True, allow_atomic=True)
    async with opened(server.url, bucket=bucket) as roles:
        with pytest.raises(BackendUnavailableError, match="no room"):
            await roles.store.write([(VALUE, b"x" * 20_000)])


async def test_reads_go_to_the_leader_after_direct_gets_are_disabled(server: Server, bucket: str) -> None:
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket, retry_for=0.2) as roles:
        await roles.store.write([(VALUE, b"x")])
        await forbid_direct(roles.client, bucket)

        assert await roles.store.read([VALUE, CALL]) == [b"x", None]

        proxy.subjects.clear()
        assert await roles.store.read([VALUE, CALL]) == [b"x", None]
        assert proxy.subjects == [f"$JS.API.STREAM.MSG.GET.KV_{bucket}"] * 3  # two keys and the stream's last message
        assert await roles.store.swap([Swap(VALUE, b"x", b"y"), Swap(VALUE, b"y", b"z" * 1_500_000)]) == [True, True]
        assert await roles.store.read([VALUE]) == [b"z" * 1_500_000]


async def test_records_survive_a_server_restart(tmp_path: Path) -> None:
    server = Server(tmp_path / "own").start()
    try:
        async with opened(server.url) as roles:
            large = b"x" * 2_000_000
            await roles.store.write([(PENDING, b"1"), (VALUE, large)])
            server.kill()
            server.start()
            assert await roles.store.read([PENDING, VALUE]) == [b"1", large]
            assert await roles.store.swap([Swap(PENDING, b"1", b"2"), Swap(VALUE, large, None)]) == [True, True]
    finally:
        server.kill()


async def recreated(client: RequestClient, bucket: str) -> None:
    """Recreate an empty bucket that is read from its leader: its revisions begin again."""
    await client.call_api(f"STREAM.DELETE.KV_{bucket}")
    await stream(client, bucket, allow_direct=False, allow_msg_ttl=True, allow_atomic=True)


async def test_read_is_repeated_while_older_than_own_changes(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=bucket) as roles:
        await forbid_direct(roles.client, bucket)
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket) as roles:
        for number in range(5):
            await roles.store.write([(PENDING, b"%d" % number)])
        # Like a leader that has only two messages and lacks the last three.
        await recreated(roles.client, bucket)
        for number in range(2):
            await put(roles.client, bucket, "pending_returns.h", b"old %d" % number)
        proxy.subjects.clear()
        reading = asyncio.create_task(roles.store.read([PENDING]))

        async def asked_again() -> bool:
            return proxy.subjects.count(f"$JS.API.STREAM.MSG.GET.KV_{bucket}") > 6

        await until(asked_again, "the read asks again")
        assert not reading.done()
        for number in range(3):
            await put(roles.client, bucket, "pending_returns.h", b"new %d" % number)
        assert await reading == [b"new 2"]


async def test_swap_does_not_fail_by_a_refusal_older_than_own_changes(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=bucket) as roles:
        await forbid_direct(roles.client, bucket)
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket) as roles:
        for number in range(3):
            await roles.store.write([(PENDING, b"%d" % number)])
        # Like a leader that has no message.
        await recreated(roles.client, bucket)
        proxy.subjects.clear()
        swapping = asyncio.create_task(roles.store.swap([Swap(PENDING, b"2", b"new")]))

        async def asked_again() -> bool:
            return proxy.subjects.count(f"$JS.API.STREAM.MSG.GET.KV_{bucket}") > 4

        await until(asked_again, "what is there is looked up again")
        assert not swapping.done()
        for number in range(3):
            await put(roles.client, bucket, "pending_returns.h", b"%d" % number)
        assert await swapping == [True]


async def test_recreated_bucket_is_accepted_after_the_stale_timeout(server: Server, bucket: str) -> None:
    async with opened(server.url, bucket=bucket) as roles:
        await forbid_direct(roles.client, bucket)
    async with relayed(NatsProxy(server.port)) as proxy, opened(proxy.url, bucket=bucket, stale_timeout=0.3) as roles:
        await roles.store.write([(PENDING, b"1")])
        await recreated(roles.client, bucket)

        assert await roles.store.read([PENDING]) == [None]
        proxy.subjects.clear()
        assert await roles.store.read([PENDING]) == [None]
        assert len(proxy.subjects) == 2
        assert await roles.store.swap([Swap(PENDING, None, b"2")]) == [True]
