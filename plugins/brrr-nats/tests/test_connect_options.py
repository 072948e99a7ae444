"""Options of nats-py that a program gives: used as they are, or refused if brrr-nats sets them itself."""

import ssl
from typing import Any, cast

import nats
import pytest
from nats.aio.client import RawCredentials

from brrr_core.backend import BackendUrl, Key
from brrr_core.errors import BackendRefusedError, BackendUnavailableError, OptionError
from brrr_nats.backend import NatsBackend
from brrr_nats.connect_options import ConnectOptions
from brrr_nats.options import NatsOptions
from brrr_testkit.servers.nats import Server, nats_program
from brrr_testkit.servers.nats_logins import operator, user_nkey
from brrr_testkit.waiting import until

nats_program()

PASSWORD = "s3cret"
VALUE = Key("value", "h")
URL = BackendUrl("nats", hosts=(("127.0.0.1", 4222),))


@pytest.fixture
def locked(tmp_path):
    """A function that starts servers with a given configuration."""
    servers = []

    def start(config):
        servers.append(Server(tmp_path / str(len(servers)), config=config).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


async def works(connect_options, **options):
    """Use the options with nats-py itself, and then with each role of brrr-nats."""
    await (await nats.connect(**connect_options)).close()
    async with NatsBackend(options=NatsOptions(**options), connect_options=connect_options) as backend:
        await backend.queue.put("jobs", [b"x"])
        (found,) = await backend.queue.receive("jobs", limit=1, wait=5)
        await backend.queue.ack([found])
        await backend.store.write([(VALUE, b"x")])
        assert await backend.store.read([VALUE]) == [b"x"]
        await backend.cache.increment({"count": 1})


async def test_servers_may_be_one_or_several_and_hold_the_login(locked):
    server = locked(f"authorization {{ user: worker, password: {PASSWORD} }}")

    await works({"servers": f"nats://worker:{PASSWORD}@{server.place}"})
    await works({"servers": [f"nats://worker:{PASSWORD}@127.0.0.1:1", f"nats://worker:{PASSWORD}@{server.place}"]})


async def test_login_of_any_kind_is_used(locked):
    server = locked(f"authorization {{ user: worker, password: {PASSWORD} }}")
    await works({"servers": server.url, "user": "worker", "password": PASSWORD})
    await works({"servers": server.url, "user": lambda: "worker", "password": lambda: PASSWORD})
    with pytest.raises(BackendRefusedError, match="login"):
        await NatsBackend(connect_options={"servers": server.url, "user": "worker", "password": "wr0ng"}).open()

    seed, public = user_nkey()
    server = locked(f"authorization {{ users: [{{ nkey: {public} }}] }}")
    await works({"servers": server.url, "nkeys_seed_str": seed})

    one = operator()
    server = locked(one.config)
    await works({"servers": server.url, "user_credentials": RawCredentials(one.creds())})


async def test_tls_context_is_used(locked, tls):
    server = locked(f'tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", timeout: 2 }}')

    await works({"servers": server.url, "tls": ssl.create_default_context(cafile=tls.ca)})
    with pytest.raises(BackendUnavailableError, match="certificate"):
        await NatsBackend(connect_options={"servers": server.url, "tls": ssl.create_default_context()}).open()


async def test_callbacks_are_called_for_each_connection(own_server):
    seen = []

    async def lost():
        seen.append("disconnected")

    async def closed():
        seen.append("closed")

    async def failed(error):
        seen.append(type(error).__name__)

    options: ConnectOptions = {
        "servers": own_server.url,
        "disconnected_cb": lost,
        "closed_cb": closed,
        "error_cb": failed,
    }
    async with NatsBackend(connect_options=options) as backend:
        own_server.kill()
        await until(lambda: seen[:3] == ["UnexpectedEOF", "disconnected", "closed"])
        own_server.start()
        await backend.store.read([VALUE])
    assert seen[-2:] == ["disconnected", "closed"]
    assert seen.count("closed") > 1


async def test_callback_that_fails_is_logged_and_does_not_disturb(own_server, caplog):
    async def failing(*_):
        raise LookupError("ours")

    options: ConnectOptions = {
        "servers": own_server.url,
        "error_cb": failing,
        "disconnected_cb": failing,
        "closed_cb": failing,
    }
    async with NatsBackend(connect_options=options) as backend:
        own_server.kill()
        await until(lambda: caplog.text.count("LookupError: ours") >= 3)
        own_server.start()
        assert await backend.store.read([VALUE]) == [None]


async def test_name_of_the_connection_may_be_changed(own_server):
    async with NatsBackend(connect_options={"servers": own_server.url, "name": "mine"}):
        assert [each["name"] for each in own_server.connections()] == ["mine"]


@pytest.mark.parametrize(
    "name",
    [
        *("allow_reconnect", "max_reconnect_attempts", "reconnected_cb", "ping_interval", "connect_timeout"),
        *("inbox_prefix", "pending_size", "verbose", "unknown"),
    ],
)
def test_option_that_brrr_sets_itself_is_refused(name: Any):
    with pytest.raises(OptionError, match=name) as caught:
        NatsBackend(URL, connect_options=cast("ConnectOptions", {name: 1}))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("connect_options", "options", "url"),
    [
        ({"servers": "nats://localhost"}, {}, URL),
        ({"user": "me", "password": PASSWORD}, {}, BackendUrl("nats", username="me")),
        ({"user_credentials": "me.creds"}, {"creds": "me.creds"}, URL),
        ({"servers": f"nats://me:{PASSWORD}@localhost", "token": "t"}, {}, None),
        ({"servers": f"nats://me:{PASSWORD}@localhost"}, {"creds": "me.creds"}, None),
        ({"tls": ssl.create_default_context()}, {"tls": True}, URL),
        ({"tls_hostname": "a"}, {"tls": True, "ca": "ca.pem"}, URL),
        ({"servers": "ws://localhost"}, {}, None),
        ({"closed_cb": lambda: None}, {}, URL),
    ],
)
def test_option_that_does_not_fit_is_refused_without_its_value(connect_options, options, url):
    with pytest.raises(OptionError) as caught:
        NatsBackend(url, NatsOptions(**options), connect_options=connect_options)
    assert caught.value.remedy
    assert PASSWORD not in str(caught.value)


def test_server_with_tls_scheme_requires_tls():
    backend = NatsBackend(connect_options={"servers": ["tls://a.example", "b.example"]})

    assert (str(backend._location), backend._location.tls) == ("a.example:4222,b.example:4222", True)
