"""Logins and TLS on real servers; errors name the cause and no secret."""

import asyncio
import time
import traceback

import pytest

import brrr_core as brrr
from brrr_core.backend import Key, parse_url
from brrr_core.errors import BackendError, BackendRefusedError, BackendUnavailableError, BodyTooLargeError
from brrr_nats.client.connector import Connector
from brrr_nats.location import location_of
from brrr_nats.options import NatsOptions
from brrr_testkit.faults.relay import Bytes, relayed
from brrr_testkit.processes import free_port
from brrr_testkit.servers.nats import Server, nats_program
from brrr_testkit.servers.nats_logins import operator, user_nkey
from brrr_testkit.waiting import until

nats_program()

PASSWORD, WRONG = "s3cret", "wr0ng"
VALUE = Key("value", "h")


def printed(error: BaseException) -> str:
    """Return everything that a log may show of an error."""
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


@pytest.fixture
def locked(tmp_path):
    """A function that starts servers with a given configuration."""
    servers = []

    def start(config, **how):
        servers.append(Server(tmp_path / str(len(servers)), config=config, **how).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


async def works(url, **options):
    """Use each role once."""
    async with brrr.open_backend(url, **options) as backend:
        await backend.queue.put("jobs", [b"x"])
        (found,) = await backend.queue.receive("jobs", limit=1, wait=5)
        await backend.queue.ack([found])
        await backend.store.write([(VALUE, b"x")])
        assert await backend.store.read([VALUE]) == [b"x"]
        await backend.cache.increment({"count": 1})


async def forever(operation):
    """Repeat an operation until it raises."""
    async with asyncio.timeout(30):
        while True:
            await operation()


async def refused(url, *secrets, match, **options):
    """Check that opening fails, and that the error shows no secret."""
    with pytest.raises(BackendError, match=match) as caught:
        await brrr.open_backend(url, **options).open()
    assert caught.value.remedy
    text = printed(caught.value)
    assert [secret for secret in secrets if secret in text] == []
    return caught.value


async def test_login_with_user_and_password(locked, monkeypatch):
    monkeypatch.setenv("RIGHT", PASSWORD)
    monkeypatch.setenv("WRONG", WRONG)
    server = locked(f"authorization {{ user: worker, password: {PASSWORD} }}")

    await works(f"nats://worker@{server.place}?password_env=RIGHT")
    await works(f"nats://worker:{PASSWORD}@{server.place}")
    await refused(f"nats://worker@{server.place}?password_env=WRONG", WRONG, match="refuses the login")
    error = await refused(f"nats://worker:{WRONG}@{server.place}", WRONG, match="refuses the login")
    assert isinstance(error, BackendRefusedError)
    await refused(server.url, match="refuses the login")


async def test_login_with_token(locked):
    server = locked(f"authorization {{ token: {PASSWORD} }}")

    await works(server.url, token=PASSWORD)
    await works(f"nats://{PASSWORD}@{server.place}")
    await works(f"{server.url}?token={PASSWORD}")
    await refused(server.url, WRONG, token=WRONG, match="refuses the login")
    await refused(f"nats://{WRONG}@{server.place}", WRONG, match="refuses the login")
    await refused(server.url, match="refuses the login")


async def test_login_with_nkey(locked, tmp_path):
    seed, public = user_nkey()
    other, _ = user_nkey()
    server = locked(f"authorization {{ users: [{{ nkey: {public} }}] }}")
    (tmp_path / "seed").write_text(seed)

    await works(server.url, nkey_seed=seed)
    await works(server.url, nkey_seed_file=str(tmp_path / "seed"))
    await refused(server.url, other, nkey_seed=other, match="refuses the login")
    await refused(server.url, WRONG, nkey_seed=WRONG, match="seed")
    await refused(server.url, nkey_seed_file=str(tmp_path / "nowhere"), match="nowhere of the option nkey_seed_file")


async def test_login_with_operator_credentials(locked, tmp_path):
    one, other = operator(), operator()
    server = locked(one.config)
    ended = one.creds(expires=time.time() - 60)
    (tmp_path / "good.creds").write_text(one.creds())
    (tmp_path / "bad.creds").write_text(other.creds())
    (tmp_path / "ended.creds").write_text(ended)
    (tmp_path / "no.creds").write_text(f"{PASSWORD}\n")

    await works(server.url, creds=str(tmp_path / "good.creds"))
    await refused(server.url, *other.creds().split(), creds=str(tmp_path / "bad.creds"), match="refuses the login")
    await refused(server.url, *ended.split()[5:6], creds=str(tmp_path / "ended.creds"), match="refuses the login")
    await refused(server.url, PASSWORD, creds=str(tmp_path / "no.creds"), match="holds no credentials")
    await refused(server.url, creds=str(tmp_path / "nowhere"), match="cannot be read")
    await refused(server.url, match="refuses the login")


@pytest.fixture
def tls_server(locked, tls):
    return locked(f'tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", timeout: 2 }}')


async def test_tls_with_a_trusted_certificate(tls_server, tls):
    await works(tls_server.url, tls=True, ca=str(tls.ca))
    await works(tls_server.url, tls=True, verify=False)
    await refused(tls_server.url, tls=True, match="certificate")
    await refused(tls_server.url, tls=True, ca=str(tls.stranger), match="certificate")
    await refused(tls_server.url, tls=True, ca="nowhere.pem", match="certificates cannot be used")
    await refused(tls_server.url, match="certificate")


async def test_server_without_tls_is_refused(shared_server, tls):
    await refused(shared_server.url, tls=True, ca=str(tls.ca), match="TLS|tls")
    await refused(
        shared_server.url, tls_first=True, ca=str(tls.ca), connect_timeout=1, retry_for=0.1, match="TLS|tls|SSL"
    )


class Overheard(Bytes):
    """A relay that keeps what clients send."""

    def __init__(self, target):
        super().__init__(target, scheme="nats")
        self.sent = b""

    def reader(self):
        def read(data):
            self.sent += data
            return [data]

        return read


@pytest.mark.parametrize("login", ["user", "token"])
async def test_password_is_never_sent_to_a_server_that_only_offers_tls(locked, tls, login):
    """nats-py would send it in clear text, because a man in the middle may remove the requirement from the greeting."""
    server = locked(f'tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", timeout: 2 }}\nallow_non_tls: true')
    async with relayed(Overheard(server.port)) as proxy:
        user = "worker:" if login == "user" else ""
        await refused(f"nats://{user}{PASSWORD}@{proxy.place}", PASSWORD, tls=True, ca=str(tls.ca), match="require TLS")
    assert PASSWORD.encode() not in proxy.sent


async def test_expired_certificate_is_refused(locked, tls):
    server = locked(f'tls {{ cert_file: "{tls.expired}", key_file: "{tls.key}", timeout: 2 }}')

    await refused(server.url, tls=True, ca=str(tls.ca), match="expired")
    await works(server.url, tls=True, verify=False)


async def test_mutual_tls(locked, tls):
    server = locked(
        f'tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", ca_file: "{tls.ca}", verify: true, timeout: 2 }}'
    )
    mine = {"cert": str(tls.cert), "key": str(tls.key)}

    await works(server.url, tls=True, ca=str(tls.ca), **mine)
    await refused(server.url, tls=True, ca=str(tls.ca), match="127")
    await refused(server.url, tls=True, ca=str(tls.ca), cert=str(tls.expired), key=str(tls.key), match="127")


async def test_tls_handshake_first(locked, tls):
    server = locked(f'tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", handshake_first: true, timeout: 2 }}')

    await works(server.url, tls_first=True, ca=str(tls.ca))
    await refused(server.url, tls=True, ca=str(tls.ca), connect_timeout=1, retry_for=0.1, match="127")


async def test_login_over_tls(locked, tls):
    server = locked(
        f'tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}", timeout: 2 }}\n'
        f"authorization {{ user: worker, password: {PASSWORD} }}"
    )

    await works(f"nats://worker:{PASSWORD}@{server.place}", tls=True, ca=str(tls.ca))
    await refused(f"nats://worker:{WRONG}@{server.place}", WRONG, tls=True, ca=str(tls.ca), match="refuses the login")
    # Without the authority the password is not sent: the handshake is refused before.
    await refused(f"nats://worker:{PASSWORD}@{server.place}", PASSWORD, tls=True, match="certificate")


async def test_changed_password_raises_on_an_open_backend(locked):
    server = locked(f"authorization {{ user: worker, password: {PASSWORD} }}")
    async with brrr.open_backend(f"nats://worker:{PASSWORD}@{server.place}", retry_for=0.5) as backend:
        server.reload(f"authorization {{ user: worker, password: {WRONG} }}")
        with pytest.raises(BackendUnavailableError, match=r"refuses the login|lost") as caught:
            await forever(lambda: backend.store.write([(VALUE, b"x")]))
        assert PASSWORD not in printed(caught.value)


async def test_unreachable_servers_are_named():
    with pytest.raises(BackendUnavailableError, match=r"127\.0\.0\.1:1,127\.0\.0\.1:2 cannot be reached"):
        await brrr.open_backend("nats://127.0.0.1:1,127.0.0.1:2", retry_for=0.1).open()


async def test_one_reachable_server_of_the_url_is_enough(shared_server, url):
    await works(url.replace("nats://", "nats://127.0.0.1:1,"))


async def test_account_limit_counts_from_the_first_message(locked, tmp_path):
    one = operator()
    server = locked(one.config)
    (tmp_path / "small.creds").write_text(one.creds(payload=70_000))

    async with brrr.open_backend(server.url, creds=str(tmp_path / "small.creds")) as backend:
        with pytest.raises(BodyTooLargeError):
            await backend.queue.put("jobs", [b"x" * 80_000])
        await backend.store.write([(VALUE, b"x" * 500_000)])
        assert await backend.store.read([VALUE]) == [b"x" * 500_000]


async def test_advertised_addresses_are_verified_by_the_advertisers_name(tmp_path, tls):
    secure = f'tls {{ cert_file: "{tls.named}", key_file: "{tls.key}", timeout: 2 }}'
    routes = [free_port(), free_port()]
    known = ", ".join(f"nats-route://127.0.0.1:{port}" for port in routes)
    servers = [
        Server(
            tmp_path / f"{number}",
            name=f"n{number}",
            jetstream=False,
            config=f"{secure}\ncluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{known}] }}",
        ).start()
        for number, port in enumerate(routes)
    ]
    try:
        options = NatsOptions(tls=True, ca=str(tls.ca))
        connector = Connector(location_of(parse_url(f"nats://localhost:{servers[0].port}").url, options), options)
        try:
            await connector.connect()
            first = (await connector.connection(0)).client
            await until(lambda: servers[1].port in {each.port for each in first.discovered_servers}, bound=40)
            servers[0].kill()
            await until(lambda: connector.current is None, bound=20)
            connection = await connector.connection(asyncio.get_running_loop().time() + 20)
            url = connection.client.connected_url
            assert url is not None
            assert url.port == servers[1].port
        finally:
            await connector.close()
    finally:
        for server in servers:
            server.kill()
