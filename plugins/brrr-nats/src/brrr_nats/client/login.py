"""Opening of connections: login and TLS, by the URL and the options."""

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any, Final

from nats import errors as nats_errors
from nats.aio.client import RawCredentials

from brrr_core.errors import BackendError
from brrr_nats.client.connection import Connection, ConnectionObserver
from brrr_nats.client.errors import NoReplyError
from brrr_nats.location import Address, Location
from brrr_nats.options import NatsOptions

__all__ = ["open_connection"]

JWT: Final = re.compile(r"-----BEGIN NATS USER JWT-----\s+\S+\s+-+END NATS USER JWT-+")
SEED: Final = re.compile(r"-----BEGIN USER NKEY SEED-----\s+\S+\s+-+END USER NKEY SEED-+")


async def open_connection(
    address: Address, name: str, location: Location, options: NatsOptions, observer: ConnectionObserver
) -> Connection:
    """Connect to one server, and log in.

    Args:
        address: The server.
        name: The host name that its certificate must have.
        location: The login.
        options: Timeouts, trusted certificates and key files.
        observer: The owner of the connection.

    Raises:
        NoReplyError: The server cannot be reached, or refuses the login.
        BackendError: A file that the options name cannot be used.
    """
    client_options = _client_options(location, options)
    connection = Connection(
        observer, name, silence_timeout=options.timeout, tls=location.tls, tls_first=options.tls_first
    )
    errors: list[Exception] = []

    async def note_error(error: Exception) -> None:
        errors.append(error)

    scheme = "tls" if location.tls else "nats"
    try:
        async with asyncio.timeout(options.connect_timeout):
            await connection.connect(
                f"{scheme}://{address}",
                error_cb=note_error,
                name="brrr",
                tls_hostname=name,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                max_outstanding_pings=1,
                **client_options,
            )
            await connection.open_inbox(options.inbox)
        _pass_cancellation_on()
    except BaseException as error:
        await connection.shut_down()
        _pass_cancellation_on()
        if isinstance(error, NoReplyError):
            raise
        if isinstance(error, TimeoutError) and not isinstance(error, nats_errors.Error):
            raise NoReplyError(TimeoutError(f"no reply within {options.connect_timeout:g} s"), sent=False) from error
        if isinstance(error, nats_errors.NoServersError) and errors:
            raise NoReplyError(errors[-1], sent=False) from error
        if isinstance(error, Exception):
            raise NoReplyError(error, sent=False) from error
        raise
    return connection


def _pass_cancellation_on() -> None:
    """Raise a cancellation that nats-py, or `wait_for` of Python 3.11, has swallowed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _client_options(location: Location, options: NatsOptions) -> dict[str, Any]:
    """Return nats-py's options for login and TLS."""
    client_options: dict[str, Any] = {
        "connect_timeout": options.connect_timeout,
        "ping_interval": max(1.0, options.timeout / 2),  # the annotation says int, but a float works
    }
    if location.username is not None:
        client_options |= {"user": location.username, "password": location.password and location.password.reveal()}
    if location.token is not None:
        client_options["token"] = location.token.reveal()
    if options.creds is not None:
        client_options["user_credentials"] = RawCredentials(_credentials(options.creds))
    if options.nkey_seed_file is not None:
        client_options["nkeys_seed_str"] = _read(options.nkey_seed_file, "nkey_seed_file")
    if options.nkey_seed is not None:
        client_options["nkeys_seed_str"] = options.nkey_seed.reveal()
    if location.tls:
        client_options["tls"] = _tls(options)
        client_options["tls_handshake_first"] = options.tls_first
    return client_options


def _credentials(path: str) -> str:
    text = _read(path, "creds")
    if not JWT.search(text) or not SEED.search(text):  # nats-py would loop endlessly on it
        raise BackendError(
            f"the file {path} holds no credentials",
            remedy="Give a file with a user's JWT and seed, as `nsc generate creds` writes it.",
        )
    return text


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
