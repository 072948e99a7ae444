"""Opening of connections: login and TLS, by the URL, the options and the options of nats-py that the program gives."""

import asyncio
import json
import re
import ssl
from base64 import urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nats.aio.client import RawCredentials

from brrr_core.backend import finish_opening
from brrr_core.errors import BackendError
from brrr_nats.client.connection import Connection
from brrr_nats.client.errors import NoReplyError
from brrr_nats.location import Address, Location
from brrr_nats.options import NatsOptions

__all__ = ["open_connection", "payload_limit"]

CREDENTIALS: Final = re.compile(
    r"-----BEGIN NATS USER JWT-----\s+\S+?\.(\S+?)\.\S+\s+-+END NATS USER JWT-+.*"
    r"-----BEGIN USER NKEY SEED-----\s+\S+\s+-+END USER NKEY SEED-+",
    re.DOTALL,
)


class _Handshake:
    """Whether a TLS handshake has succeeded. nats-py would log in without TLS if the server does not require it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.done = False
        handshake = self

        class Noted(ssl.SSLObject):
            def do_handshake(self) -> None:
                super().do_handshake()
                handshake.done = True

        context.sslobject_class = Noted

    def check(self) -> None:
        """Raise `SSLError` without a handshake."""
        if not self.done:
            raise ssl.SSLError("the server does not require TLS")

    def guard(self, secret: str) -> Callable[[], str]:
        """Return a function that gives the secret only after a handshake."""

        def reveal() -> str:
            self.check()
            return secret

        return reveal


async def open_connection(
    address: Address, name: str, location: Location, options: NatsOptions, on_lost: Callable[[Connection], None]
) -> Connection:
    """Connect to one server, and log in.

    Args:
        address: The server.
        name: The host name that its certificate must have.
        location: The login.
        options: Timeouts, trusted certificates and key files.
        on_lost: Called when the connection is lost.

    Raises:
        NoReplyError: The server cannot be reached, or refuses the login.
        BackendError: A file that the options name cannot be used.
    """
    context = _tls(options) if location.tls else None
    handshake = _Handshake(context) if context is not None else None
    client_options = {
        "name": "brrr",
        "connect_timeout": options.connect_timeout,
        "ping_interval": max(
            1, int(options.timeout / 2)
        ),  # the connection to a silent server ends after at most twice as long
        "inbox_prefix": options.inbox,
        "tls_hostname": name,
        **location.connect_options,
        **_login(location, options, handshake),
    }
    if context is not None:
        client_options |= {"tls": context, "tls_handshake_first": options.tls_first}
    connection = Connection(on_lost)

    async def attempt() -> Connection:
        try:
            async with asyncio.timeout(options.connect_timeout):
                await connection.open(f"{'tls' if location.tls else 'nats'}://{address}", client_options)
                if handshake is not None:
                    handshake.check()
        except BaseException as error:
            await connection.close()
            if isinstance(error, NoReplyError):
                raise
            if type(error) is TimeoutError:
                late = TimeoutError(f"no reply within {options.connect_timeout:g} s")
                raise NoReplyError(late, sent=False) from error
            if isinstance(error, Exception):
                raise NoReplyError(error, sent=False) from error
            raise
        return connection

    return await finish_opening(attempt(), Connection.close)


def _login(location: Location, options: NatsOptions, handshake: _Handshake | None) -> dict[str, Any]:
    """Return nats-py's options for the login."""
    login: dict[str, Any] = {"user": location.username} if location.username is not None else {}
    for name, secret in (("password", location.password), ("token", location.token)):
        if secret is not None:
            login[name] = secret.reveal() if handshake is None else handshake.guard(secret.reveal())
    if options.creds is not None:
        login["user_credentials"] = RawCredentials(_credentials(options.creds)[0])
    if options.nkey_seed_file is not None:
        login["nkeys_seed_str"] = _read(options.nkey_seed_file, "nkey_seed_file")
    if options.nkey_seed is not None:
        login["nkeys_seed_str"] = options.nkey_seed.reveal()
    return login


def payload_limit(options: NatsOptions) -> int:
    """Return the user's own limit for messages, which nats-py does not read; -1 if there is none."""
    if options.creds is None:
        return -1
    claims = _credentials(options.creds)[1]
    found = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    return int(found.get("nats", {}).get("payload", -1))


def _credentials(path: str) -> tuple[str, str]:
    """Return the text of a file with credentials, and the claims of its JWT."""
    text = _read(path, "creds")
    found = CREDENTIALS.search(text)
    if found is None:  # nats-py would loop endlessly on it
        raise BackendError(
            f"the file {path} holds no credentials",
            remedy="Give a file with a user's JWT and seed, as `nsc generate creds` writes it.",
        )
    return text, found[1]


def _read(path: str, option: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(
            f"the file {path} of the option {option} cannot be read ({type(error).__name__})",
            remedy="Check the path and its permissions.",
        ) from error


def _tls(options: NatsOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert is not None:
            context.load_cert_chain(options.cert, options.key)
    except (OSError, ssl.SSLError) as error:
        raise BackendError(
            f"the certificates cannot be used ({type(error).__name__})", remedy="Check ca, cert and key."
        ) from error
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
