"""The Lua scripts alone, on both servers: failures half way, repeated claims, and other programs on the list."""

from hashlib import sha1

import pytest
import redis

from brrr_redis.layout import Layout
from brrr_redis.scripts import (
    ACK,
    BURY,
    CLAIM,
    COMMIT,
    DROP,
    EXTEND,
    REDRIVE,
    RELEASE,
    STATS,
    TAKE_LETTERS,
    UNCLAIM,
)
from brrr_redis.steps import pack_lengths

TOPIC = "jobs"
KEYS = Layout("").topic(TOPIC)
ENDED, FAR = 1, 10**14
HELD = b"claim.1.000001:2:held"
OTHER = b"claim.1.000002:1:other"
DEAD = b"1:1:3:whydead"
BODIES = {b"ready", b"same", b"moved", b"held", b"other", b"ended", b"due", b"later", b"dead"}
READINGS = (1000, 750, 1, "call_hash", "record:", "call:")
LENGTHS = pack_lengths(0, 0, 0, 3, 0, 1, 1, 0)
MESSAGES = (1, "leased", b"ready", 1, 1000, b"later", 1, "ready", b"same")
CALLS = {
    "ack": (ACK, (b"unknown",)),
    "bury": (BURY, (HELD, "why")),
    "claim": (CLAIM, (9, 1000, "mine")),
    "claim some": (CLAIM, (2, 1000, "mine")),
    "claim again": (CLAIM, (9, 1000, "claim", 1)),
    "claim and read": (CLAIM, (9, 1000, "mine", 0, *READINGS)),
    "commit": (COMMIT, (1000, 1000, 0, 0, "mine", 1, 0, LENGTHS, *MESSAGES, 1, b"unknown")),
    "extend": (EXTEND, (1000, HELD, OTHER)),
    "redrive": (REDRIVE, (9,)),
    "release": (RELEASE, (0, HELD, OTHER)),
    "release later": (RELEASE, (1000, HELD, OTHER)),
    "take letters": (TAKE_LETTERS, (1, 1, sha1(DEAD, usedforsecurity=False).hexdigest())),
    "unclaim": (UNCLAIM, ("claim",)),
    "unclaim inbox": (UNCLAIM, ("",)),
}
COMMANDS = (
    *(
        "del",
        "hdel",
        "hincrby",
        "hset",
        "lmove",
        "lpop",
        "lpush",
        "lrem",
        "lset",
        "ltrim",
        "pexpire",
        "rpush",
        "zadd",
        "zrem",
    ),
    *("exists", "hget", "lindex", "llen", "lrange", "zrange", "zrangebyscore", "zscan", "zscore"),
)


@pytest.fixture(params=["valkey_server", "old_server"])
def server(request):
    """Valkey and the oldest supported Redis, empty."""
    server = request.getfixturevalue(request.param)
    server.do("FLUSHALL")
    return server


def run(client, script, *arguments):
    return client.execute_command("EVAL", script.source, len(KEYS), *KEYS, *arguments)


def fill(client):
    """Fill every key of the topic, with stored attempts for two bodies."""
    client.flushall()
    client.rpush(KEYS.ready, b"ready", b"same", b"same")
    client.rpush(KEYS.inbox, b"moved")
    client.zadd(KEYS.leases, {HELD: FAR, OTHER: FAR, b"old.1.000001:3:ended": ENDED})
    client.zadd(KEYS.delayed, {b"put.000001:0:due": ENDED, b"put.000002:0:later": FAR})
    client.hset(KEYS.attempts, mapping={"bready": "4", "bsame": "1,2", "n": 3})
    client.rpush(KEYS.dead, DEAD)


def list_members(client, key):
    return client.lrange(key, 0, -1) if client.type(key) == b"list" else []


def zset_members(client, key):
    return client.zrange(key, 0, -1) if client.type(key) == b"zset" else []


def all_bodies(client):
    """The bodies under all keys."""
    found = set(list_members(client, KEYS.ready)) | set(list_members(client, KEYS.inbox))
    for key in (KEYS.leases, KEYS.delayed):
        found |= {member.split(b":", 2)[2] for member in zset_members(client, key)}
    return found | {letter.split(b":", 3)[3].removeprefix(b"why") for letter in list_members(client, KEYS.dead)}


@pytest.mark.parametrize("name", CALLS)
def test_script_that_fails_half_way_loses_no_message(server, name):
    script, arguments = CALLS[name]
    refused = 0
    with redis.Redis(port=server.port) as client:
        for denied in COMMANDS:
            fill(client)
            client.execute_command(
                "ACL", "SETUSER", "limited", "reset", "on", "nopass", "~*", "&*", "+@all", f"-{denied}"
            )
            with redis.Redis(port=server.port, username="limited", password="any") as limited:
                try:
                    run(limited, script, *arguments)
                except redis.RedisError:
                    refused += 1
            assert all_bodies(client) == BODIES, f"without {denied}"
        client.execute_command("ACL", "DELUSER", "limited")
    assert refused >= 2, "the script calls some of these commands"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("place", KEYS._fields)
def test_key_of_another_type_loses_no_message_of_other_keys(server, name, place):
    script, arguments = CALLS[name]
    with redis.Redis(port=server.port) as client:
        fill(client)
        client.set(getattr(KEYS, place), "not ours")
        before, failures = all_bodies(client), list[str]()
        for _ in range(3):
            try:
                run(client, script, *arguments)
            except redis.ResponseError as error:
                failures.append(str(error))
        assert all("WRONGTYPE" in failure for failure in failures)
        assert all_bodies(client) == before


def test_scripts_put_the_expected_messages_on_the_list(server):
    expected = {
        "ack": {b"ready": 1, b"same": 2, b"moved": 1, b"ended": 1, b"due": 1},
        "claim": {},
        "release": {b"ready": 1, b"same": 2, b"moved": 1, b"ended": 1, b"due": 1, b"held": 1, b"other": 1},
        "unclaim": {b"ready": 1, b"same": 2, b"moved": 1, b"held": 1, b"other": 1},
        "unclaim inbox": {b"ready": 1, b"same": 2, b"moved": 1},
        "take letters": {b"ready": 1, b"same": 2, b"moved": 1, b"dead": 1},
        "redrive": {b"ready": 1, b"same": 2, b"moved": 1, b"dead": 1},
    }
    with redis.Redis(port=server.port) as client:
        for name, counts in expected.items():
            fill(client)
            script, arguments = CALLS[name]
            run(client, script, *arguments)
            listed = client.lrange(KEYS.ready, 0, -1) + client.lrange(KEYS.inbox, 0, -1)
            assert {body: listed.count(body) for body in listed} == counts, name
            assert all_bodies(client) == BODIES, name


def test_unclaimed_messages_are_first_and_in_order(server):
    with redis.Redis(port=server.port) as client:
        client.rpush(KEYS.ready, *(b"%d" % number for number in range(6)))
        run(client, CLAIM, 2, 60_000, "gone")
        for _ in range(2):
            client.lmove(KEYS.ready, KEYS.inbox, "LEFT", "RIGHT")

        run(client, UNCLAIM, "gone")

        assert client.lrange(KEYS.ready, 0, -1) == [b"%d" % number for number in range(6)]
        assert client.exists(KEYS.inbox, KEYS.leases, KEYS.attempts) == 0


def test_repeated_claim_that_runs_before_the_first_one_leases_each_message_once(server):
    with redis.Redis(port=server.port) as client:
        client.rpush(KEYS.ready, b"same", b"same", b"same")

        _, _, given, _ = run(client, CLAIM, 1, 60_000, "token", 1)
        run(client, CLAIM, 1, 60_000, "token")

        assert client.zcard(KEYS.leases) == 2
        assert client.llen(KEYS.ready) == 1
        _, _, again, _ = run(client, CLAIM, 1, 60_000, "token", 1)
        assert again == given, "at most the limit, and the same as before"


def test_repeated_claim_returns_only_its_members_in_order(server):
    with redis.Redis(port=server.port) as client:
        client.rpush(KEYS.ready, *(b"%d" % number for number in range(3000)))
        run(client, CLAIM, 1000, 60_000, "a")
        _, _, given, _ = run(client, CLAIM, 1000, 60_000, "b")
        run(client, CLAIM, 1000, 60_000, "bc")

        _, _, again, _ = run(client, CLAIM, 1000, 60_000, "b", 1)

        assert again == given
        assert [member.split(b":", 2)[2] for member in again] == [b"%d" % number for number in range(1000, 2000)]


def test_repeated_claim_renews_its_leases_that_have_not_expired(server):
    with redis.Redis(port=server.port) as client:
        client.rpush(KEYS.ready, b"ran out", b"still held")
        run(client, CLAIM, 2, 60_000, "token")
        ran_out, held = client.zrange(KEYS.leases, 0, -1)
        client.zadd(KEYS.leases, {ran_out: ENDED})
        client.zincrby(KEYS.leases, -30_000, held)
        begun = client.zscore(KEYS.leases, held)

        _, _, given, _ = run(client, CLAIM, 2, 60_000, "token", 1)

        assert given == [held]
        assert client.zscore(KEYS.leases, held) >= begun + 30_000
        assert client.lrange(KEYS.ready, 0, -1) == [b"ran out"]


def test_stale_attempts_are_deleted_at_the_next_claim(server):
    with redis.Redis(port=server.port) as client:
        client.rpush(KEYS.ready, *[b"same"] * 6)
        _, _, held, _ = run(client, CLAIM, 6, 60_000, "a")
        run(client, RELEASE, 0, *held)
        client.lpop(KEYS.ready, 6)
        client.rpush(KEYS.ready, b"another", b"and another")
        run(client, CLAIM, 1, 60_000, "b")
        assert client.exists(KEYS.attempts) == 0

        client.rpush(KEYS.ready, *[b"same"] * 6)

        _, _, found, _ = run(client, CLAIM, 7, 60_000, "c")
        assert {member.split(b":")[1] for member in found} == {b"1"}


def test_stale_attempts_are_bounded(server):
    with redis.Redis(port=server.port) as client:
        for number in range(50):
            client.rpush(KEYS.ready, b"%d" % number)
            _, _, held, _ = run(client, CLAIM, 1, 60_000, f"t{number}")
            client.rpush(KEYS.ready, b"another", b"and another")  # a release never finds the list empty
            run(client, RELEASE, 0, *held)
            assert int(client.hget(KEYS.attempts, "n")) <= 3
            client.lpop(KEYS.ready, 3)


def test_stats_count_messages_of_all_states(server):
    with redis.Redis(port=server.port) as client:
        fill(client)
        assert run(client, STATS) == [6, 2, 1, 1]


def test_drop_and_redrive_return_their_count_and_the_rest(server):
    with redis.Redis(port=server.port) as client:
        client.rpush(KEYS.dead, *(b"1:1:0:%d" % number for number in range(5)))
        assert run(client, DROP, 2) == [2, 3]
        assert run(client, REDRIVE, 2) == [2, 1]
        assert run(client, REDRIVE, 2) == [1, 0]
        assert client.lrange(KEYS.ready, 0, -1) == [b"2", b"3", b"4"]
