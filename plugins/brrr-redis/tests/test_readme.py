"""The README.md: its tables and permissions are correct."""

import re
from dataclasses import fields
from pathlib import Path

import brrr_core as brrr
from brrr_core.backend import Key, Swap
from brrr_redis import layout
from brrr_redis.options import RedisOptions
from brrr_testkit.readmes import options_of

README = (Path(__file__).parents[1] / "README.md").read_text()
TOPIC = "jobs"


def test_table_of_options_is_complete():
    assert options_of(README) == {option.name for option in fields(RedisOptions)}


def test_table_of_keys_matches_the_layout():
    rows = [line for line in (layout.__doc__ or "").splitlines() if line.startswith("| `brrr:{")]

    assert len(rows) == 5
    assert all(row in README for row in rows)


async def test_listed_permissions_are_sufficient(valkey, whole_cluster):
    rights = re.findall(r"\+[a-z|]+", README.partition("permissions in its ACL")[2])
    assert len(rights) > 20
    valkey.do("ACL", "SETUSER", "worker", "on", "nopass", "resetkeys", "~brrr:prefix:4:app::*", "&*", "-@all", *rights)
    try:
        url = f"redis://worker:x@127.0.0.1:{valkey.port}/0?prefix=app:"
        await brrr.open_backend(url).setup()
        await _everything(url, ttl="")
        await _everything(url, ttl="&ttl=1h")
    finally:
        valkey.do("ACL", "DELUSER", "worker")
    for server in whole_cluster.servers:
        server.do("ACL", "SETUSER", "worker", "on", "nopass", "~*", "&*", "-@all", *rights)
    await _everything(whole_cluster.url.replace("://", "://worker:x@") + "?prefix=app:", ttl="")


async def _everything(url, ttl):
    async with brrr.open_backend(f"{url}{ttl}") as backend:
        queue, store = backend.queue, backend.store
        assert await queue.receive(TOPIC, limit=1, wait=0.05) == []
        await queue.put(TOPIC, [b"x" * 200] * 5)
        await queue.put(TOPIC, [b"x"], delay=1)
        one, two, three, four, five = await queue.receive(TOPIC, limit=5, wait=1)
        await queue.extend([one])
        await queue.release([one, two])
        await queue.release([three], delay=1)
        await queue.bury(four, "x")
        await queue.bury(five, "x")
        assert len(await queue.dead(TOPIC, limit=5)) == 2
        assert await queue.redrive(TOPIC, limit=1) == 1
        assert await queue.drop(TOPIC, limit=1) == 1
        await queue.ack(await queue.receive(TOPIC, limit=9, wait=1))
        await queue._unclaim(queue._layout.topic(TOPIC), "none")  # pyright: ignore[reportAttributeAccessIssue] - looks inside
        await queue.stats(TOPIC)
        await store.write([(Key("call", "h"), b"x")])
        await store.read([Key("call", "h")])
        await store.swap([Swap(Key("value", "h"), None, b"x"), Swap(Key("value", "h"), b"x", None)])
        await backend.cache.increment({"brrr_count/r": 1, "brrr_count/s": 0})
