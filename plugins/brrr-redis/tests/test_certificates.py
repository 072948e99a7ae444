"""A wrong certificate is not an outage: opening fails immediately, and the remedy says what to check."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendRefusedError
from brrr_testkit.certificates import Certificates
from brrr_testkit.faults.relay import RedisProxy, relayed
from brrr_testkit.servers.redis import Server


def files_of(tls: Certificates, **names: str) -> dict[str, Any]:
    return {option: str(getattr(tls, name)) for option, name in names.items()}


@pytest.mark.parametrize(("server", "ca"), [("cert", "stranger"), ("named", "ca"), ("expired", "ca")])
async def test_wrong_certificate_of_the_server_is_refused_at_once(
    valkey: Server, tls: Certificates, server: str, ca: str
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(getattr(tls, server), tls.key)
    async with relayed(RedisProxy(valkey.port), context=context) as proxy:
        backend = brrr.open_backend(f"rediss://127.0.0.1:{proxy.port}/0", retry_for="1h", **files_of(tls, ca=ca))
        with pytest.raises(BackendRefusedError, match="certificate verify failed") as caught:
            await backend.open()
    assert caught.value.remedy.startswith("Check ca, cert and key")


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def strict_port(request: pytest.FixtureRequest, tls: Certificates) -> Iterator[int]:
    """The port of a server that takes no client without a valid certificate, and says why.

    With TLS 1.3, a client notices it only after its handshake. asyncio's own servers do not say why.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.ca)
    context.load_cert_chain(tls.cert, tls.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = ssl.TLSVersion[request.param]
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return  # the test is over
            with connection.dup() as kept:  # a failed handshake closes the other
                with suppress(ssl.SSLError):
                    context.wrap_socket(connection, server_side=True).close()
                while kept.recv(1 << 16):  # unread bytes would reset the connection before the client has the reason
                    pass

    thread = Thread(target=serve)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    listening.close()


@pytest.mark.parametrize("files", [{}, {"cert": "expired", "key": "key"}], ids=["missing", "expired"])
async def test_wrong_certificate_of_the_client_is_refused_at_once(
    tls: Certificates, strict_port: int, files: dict[str, str]
) -> None:
    backend = brrr.open_backend(
        f"rediss://127.0.0.1:{strict_port}/0", retry_for="1h", **files_of(tls, ca="ca", **files)
    )
    with pytest.raises(BackendRefusedError, match="do not accept each other's certificates"):
        await backend.open()
