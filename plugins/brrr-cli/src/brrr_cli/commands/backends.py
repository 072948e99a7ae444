"""`brrr backends`, `brrr setup` and `brrr gc`: list backends and codecs, create what backends need, and clean up."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, TypeVar

from cyclopts import Parameter

from brrr_cli.options import NO_URLS, AsJson, Verbose, named_urls
from brrr_cli.output import write_json, write_line, write_table
from brrr_core import open_backend
from brrr_core.backend import BackendManifest, mask_url, parse_url
from brrr_core.backend.lifecycle import retry_while_unavailable
from brrr_core.codec import CodecManifest
from brrr_core.errors import UrlError
from brrr_core.plugins import Listed, backend_manifest, list_backends, list_codecs
from brrr_core.plugins.roles import ROLES
from brrr_core.plugins.scanning import KNOWN_BACKENDS, KNOWN_CODECS

__all__ = ["backends", "gc", "setup"]

ManifestT = TypeVar("ManifestT", BackendManifest, CodecManifest)


def backends(*, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show the backends and codecs.

    The list shows the installed ones with their roles and distributions, and why one is broken. Then it shows plugins
    that you can install.
    """
    del verbose  # `report` reads it from the command line
    installed, codecs = list_backends(), list_codecs()
    missing = _missing(KNOWN_BACKENDS, installed) | _missing(KNOWN_CODECS, codecs)
    if as_json:
        write_json(
            {
                "backends": [_backend(row) for row in installed],
                "codecs": [_common(row) for row in codecs],
                "not_installed": [
                    {"name": name, "distribution": wanted, "install": _install(wanted)}
                    for name, wanted in missing.items()
                ],
            }
        )
        return
    write_table(
        ("BACKEND", "ROLES", "FROM", "SUMMARY"), [(f"{r.name}:", _roles(r), _from(r), _what(r)) for r in installed]
    )
    write_line("")
    write_table(("CODEC", "FROM", "SUMMARY"), [(r.name, _from(r), _what(r)) for r in codecs])
    if missing:
        write_line("")
        write_table(("NOT INSTALLED", "INSTALL WITH"), [(name, _install(wanted)) for name, wanted in missing.items()])


async def setup(
    *urls: Annotated[str, Parameter(help="Backend URLs; by default those of BRRR_QUEUE, BRRR_STORE and BRRR_CACHE.")],
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Create what backends need, and check that they open.

    The command creates tables, streams and folders. Existing ones stay as they are.
    """
    del verbose  # `report` reads it from the command line
    for url in _named(urls):
        backend = open_backend(url)
        done = await retry_while_unavailable(backend.setup, backend.retry_for)
        async with backend:
            pass
        shown = mask_url(url, backend_manifest(parse_url(url).url.scheme).options)
        if as_json:
            write_json({"url": shown, "done": done})
            continue
        for line in done:
            write_line(line)
        write_line(f"{shown} is ready")


async def gc(
    *urls: Annotated[
        str, Parameter(help="URLs of backends; by default those of BRRR_QUEUE, BRRR_STORE and BRRR_CACHE.")
    ],
    dry_run: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Say what would be removed, and remove nothing.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Remove expired records, and records that finished calls no longer need.

    Servers that expire records remove them by themselves.
    """
    del verbose  # `report` reads it from the command line
    for url in _named(urls):
        async with open_backend(url) as backend:
            done = await backend.collect(dry_run=dry_run)
        shown = mask_url(url, backend_manifest(parse_url(url).url.scheme).options)
        if as_json:
            write_json({"url": shown, "done": done, "dry_run": dry_run})
            continue
        for line in done or ["has nothing to remove"]:
            write_line(f"{shown} {line}")


def _named(urls: Sequence[str]) -> list[str]:
    """Return the given URLs, or those of the environment."""
    named = list(dict.fromkeys(urls)) or named_urls(NO_URLS)
    if not named:
        raise UrlError("no backend is named", remedy="Pass URLs like sqlite:///brrr.db, or set BRRR_QUEUE.")
    return named


def _backend(row: Listed[BackendManifest]) -> dict[str, object]:
    roles: dict[str, object] = {}
    if row.manifest is not None:
        offered = {role: getattr(row.manifest, role) for role in ROLES}
        roles = {role: asdict(capabilities) for role, capabilities in offered.items() if capabilities is not None}
    return {**_common(row), "example": row.manifest.example if row.manifest else None, "roles": roles}


def _common(row: Listed[ManifestT]) -> dict[str, object]:
    error = row.error
    return {
        "name": row.name,
        "distribution": row.distribution,
        "version": row.version,
        "summary": row.manifest.summary if row.manifest else None,
        "error": None if error is None else {"code": error.code, "what": error.what, "remedy": error.remedy},
    }


def _roles(row: Listed[BackendManifest]) -> str:
    if row.manifest is None:
        return "-"
    return " ".join(f"{role}{_marks(row.manifest, role)}" for role in ROLES if getattr(row.manifest, role) is not None)


def _marks(manifest: BackendManifest, role: str) -> str:
    capabilities = asdict(getattr(manifest, role))
    marks = [name for name, value in capabilities.items() if value is True]
    return f"({','.join(marks)})" if marks else ""


def _from(row: Listed[ManifestT]) -> str:
    return f"{row.distribution} {row.version}".strip() or "registered"


def _what(row: Listed[ManifestT]) -> str:
    if row.error is not None:
        return f"BROKEN {row.error}"
    return row.manifest.summary if row.manifest else ""


def _missing(known: Mapping[str, str], rows: Iterable[Listed[ManifestT]]) -> dict[str, str]:
    there = {row.name for row in rows}
    return {name: distribution for name, distribution in known.items() if name not in there}


def _install(distribution: str) -> str:
    return f"pip install {distribution}"
