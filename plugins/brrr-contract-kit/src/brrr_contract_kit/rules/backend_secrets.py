"""Rules BACKEND-SECRET: passwords and tokens never show, with a server that answers and without one."""

import logging
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

from brrr_contract_kit.registry import LONG, rule
from brrr_contract_kit.target import option_types
from brrr_contract_kit.testbed.checks import NotApplicableError, check, shown
from brrr_contract_kit.testbed.context import Context, raised
from brrr_contract_kit.testbed.operations import use
from brrr_contract_kit.testbed.servers import FAIL_GRACES, at_address, closed_port, opening_once
from brrr_core import open_backend
from brrr_core.backend import BackendManifest, Secret, parse_url

CANARY: Final = "Sup3rS3cretCanary"

MIN_SECRET_LENGTH: Final = 8
"""The shortest secret that does not occur in other texts by chance."""

MAX_TEXT: Final = 100_000
AROUND: Final = 1000
"""The most characters that are searched in one attribute, and that are shown around a leaked secret."""


def _formatted(error: BaseException | None) -> str:
    """Return all that a log shows of an error, with its causes and notes."""
    return "" if error is None else "".join(traceback.format_exception(error))


@contextmanager
def _collected_logs() -> Generator[list[str]]:
    """Collect the log records of the block, at every level."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    listener, root = Listener(), logging.getLogger()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(listener)


async def _all_output(ctx: Context, url: str) -> str:
    """Return all text that a URL causes: of its backend, its roles, its errors and the log."""
    with _collected_logs() as lines:
        try:
            backend = opening_once(open_backend(url))
        except Exception as refusal:  # noqa: BLE001 - the rule searches its text
            return "\n".join([_formatted(refusal), *lines])
        texts = [*_shown(backend)]
        error = await raised(backend.open())
        if error is None:
            roles = backend.roles
            held = (role for role in (roles.queue, roles.store, roles.cache, roles.steps) if role is not None)
            texts += [text for each in (backend, roles, *held) for text in _shown(each)]
            error = await raised(use(ctx, backend))
        await backend.close()
    return "\n".join([*texts, _formatted(error), *lines])


def _shown(thing: object) -> Iterator[str]:
    """Yield the text of an object, and of its attributes that are not strings or bytes."""
    yield f"{thing!r} {thing!s}"
    for name in [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]:
        value = getattr(thing, name, None)
        if not isinstance(value, (str, bytes)):
            yield shown(value, longest=MAX_TEXT)


def _secret_urls(url: str, manifest: BackendManifest, address: str | None) -> list[str]:
    """Return the URL with the canary in each place that may hold a secret, and in some that should not.

    Args:
        url: The URL.
        manifest: The manifest of its backend.
        address: Another address of the server; None keeps it.
    """
    scheme = parse_url(url).url.scheme
    login = f"user:{CANARY}@"
    mark = "&" if "?" in url else "?"
    if parse_url(url).url.hosts:
        url = at_address(url, address)
        logins = [at_address(url, login=login), at_address(url, login=f"{CANARY}@")]
    else:
        logins = [f"{scheme}://{login}{address or 'localhost'}/x", f"{scheme}://{login}/x"]
    secrets = [name for name, kind in option_types(manifest).items() if kind is Secret]
    options = [f"{url}{mark}{name}={CANARY}" for name in [*secrets, "password", "token", "no_such_option"]]
    options += [f"{url}{mark}{name}_env={CANARY}" for name in [*secrets, "password"]]
    return [*logins, *options]


async def _check_hidden(ctx: Context, urls: list[str], what: str) -> None:
    """Check that no output of these URLs contains the canary."""
    for secret in urls:
        async with ctx.within(FAIL_GRACES * ctx.grace, what):
            output = await _all_output(ctx, secret)
        where = ctx.target.mask(secret.replace(CANARY, "<the secret>"))
        check(CANARY not in output, f"the secret of {where} shows: {_around(output)}")


def _around(output: str) -> str:
    """Return the text around the first canary, without it."""
    at = output.find(CANARY)
    return output[max(0, at - AROUND) : at + AROUND].replace(CANARY, "<the secret>")


@rule("BACKEND-SECRET-01", limit=LONG)
async def keeps_secrets(ctx: Context) -> None:
    """A password never shows: not in a `repr`, an error, a cause, a traceback or a log.

    Why: Errors go to logs, and people read logs.

    Test: URLs contain a canary as their password, in every secret option, and in places that should not hold a secret.
    Backends are made of them and opened at an address where no server answers. No resulting text may contain the
    canary.
    """
    url = ctx.target.url
    if url is None:
        raise NotApplicableError("a function makes the backend, so it has no URL")
    with closed_port() as address:
        await _check_hidden(
            ctx, _secret_urls(url, ctx.target.manifest, address), "opening a URL with a wrong password fails"
        )


@rule("BACKEND-SECRET-02", limit=LONG)
async def keeps_secrets_of_a_live_server(ctx: Context) -> None:
    """A password does not show if the server answers, neither when it refuses the login nor while it is used.

    Why: A wrong password is the usual reason for an error at opening, and a log at level DEBUG is the usual reaction.

    Test: Everything is logged while the target's own URL is opened, used and closed. The same is done with URLs at its
    server that have a canary as the password or in a secret option. No text may contain a secret: the log, errors with
    their causes, and the `repr` of the backend, its roles, its options and its other parts. A secret of the target's
    own URL counts if it has 8 characters or more and is not also a public part of the URL.
    """
    url = ctx.target.url
    if url is None:
        raise NotApplicableError("a function makes the backend, so it has no URL")
    own = [each for each in ctx.target.secrets if len(each) >= MIN_SECRET_LENGTH and each not in ctx.target.name]
    async with ctx.within(FAIL_GRACES * ctx.grace, "a use of the target"):
        output = await _all_output(ctx, url)
    for secret in own:
        before, found, after = output.partition(secret)
        check(not found, f"a secret of the target shows: {ctx.target.mask(before[-AROUND:] + found + after[:AROUND])}")
    if parse_url(url).url.hosts:
        await _check_hidden(ctx, _secret_urls(url, ctx.target.manifest, None), "a use with a wrong password")
