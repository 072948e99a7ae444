"""Makes connections: logs in, by what a URL and its options say, and sees to TLS."""

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any, Final

from nats import errors as nats_errors
from nats.aio.client import RawCredentials

from brrr_core.errors import BackendError
from brrr_nats.client.connection import Connection, Keeper
from brrr_nats.client.errors import Lost
from brrr_nats.location import Address, Location
from brrr_nats.options import NatsOptions

__all__ = ["dial"]

JWT: Final = re.compile(r"-----BEGIN NATS USER JWT-----\s+\S+\s+-+END NATS USER JWT-+")
SEED: Final = re.compile(r"-----BEGIN USER NKEY SEED-----\s+\S+\s+-+END USER NKEY SEED-+")


async def dial(address: Address, name: str, location: Location, options: NatsOptions, keeper: Keeper) -> Connection:
    """Connect to one server, and log in.

    Args:
        address: The server's.
        name: What its certificate has to be for.
        location: How to log in.
        options: For how long to wait, whom to trust.
        keeper: Looks after the connection.

    Raises:
        Lost: It cannot be reached, or refuses the login.
        BackendError: A file that the options name cannot be used.
    """
    settings = _settings(location, options)
    connection = Connection(keeper, name, patience=options.timeout, tls=location.tls, tls_first=options.tls_first)
    seen: list[Exception] = []

    async def note(error: Exception) -> None:
        seen.append(error)

    scheme = "tls" if location.tls else "nats"
    try:
        async with asyncio.timeout(options.connect_timeout):
            await connection.connect(
                f"{scheme}://{address}",
                error_cb=note,
                name="brrr",
                tls_hostname=name,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                max_outstanding_pings=1,
                **settings,
            )
            await connection.listen(options.inbox)
        _pass_cancellation_on()
    except BaseException as error:
        await connection.shut()
        _pass_cancellation_on()
        if isinstance(error, Lost):
            raise
        if isinstance(error, TimeoutError) and not isinstance(error, nats_errors.Error):
            raise Lost(TimeoutError(f"no answer within {options.connect_timeout:g} s"), sent=False) from error
        if isinstance(error, nats_errors.NoServersError) and seen:
            raise Lost(seen[-1], sent=False) from error
        if isinstance(error, Exception):
            raise Lost(error, sent=False) from error
        raise
    return connection


def _pass_cancellation_on() -> None:
    """Raise the cancellation that was swallowed: by nats-py, or by `wait_for` of Python 3.11."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _settings(location: Location, options: NatsOptions) -> dict[str, Any]:
    """What nats-py is told of logins and TLS."""
    settings: dict[str, Any] = {
        "connect_timeout": options.connect_timeout,
        "ping_interval": max(1.0, options.timeout / 2),  # annotated as whole seconds, and any number does
    }
    if location.username is not None:
        settings |= {"user": location.username, "password": location.password and location.password.reveal()}
    if location.token is not None:
        settings["token"] = location.token.reveal()
    if options.creds is not None:
        settings["user_credentials"] = RawCredentials(_credentials(options.creds))
    if options.nkey_seed_file is not None:
        settings["nkeys_seed_str"] = _read(options.nkey_seed_file, "nkey_seed_file")
    if options.nkey_seed is not None:
        settings["nkeys_seed_str"] = options.nkey_seed.reveal()
    if location.tls:
        settings["tls"] = _tls(options)
        settings["tls_handshake_first"] = options.tls_first
    return settings


def _credentials(path: str) -> str:
    text = _read(path, "creds")
    if not JWT.search(text) or not SEED.search(text):  # nats-py would read on for ever
        raise BackendError(
            f"{path} holds no credentials",
            remedy="Name a file with a user's JWT and seed, as `nsc generate creds` has.",
        )
    return text


def _read(path: str, option: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(
            f"the file {path} of the option {option} cannot be read ({type(error).__name__})",
            remedy="Check its name and who may read it.",
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
