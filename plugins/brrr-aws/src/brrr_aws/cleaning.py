"""Takes out of errors what is not for logs: what servers repeat of a request, logins in URLs, a process' output."""

import re
from json import JSONDecodeError
from typing import Any, Final, cast
from urllib.parse import urlsplit

from aiohttp import ClientResponseError
from botocore import exceptions as botocore  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_aws.fates import answer_of, details_of

__all__ = ["clean", "plain_address"]

KEY_IDS: Final = re.compile(r"\b(?:AKIA|ASIA|AKID|AROA|AIDA)[A-Z0-9]{4,}")
"""Ids of access keys, which servers repeat."""

WORDY: Final = re.compile(r"(?:Canonical String|String-to-Sign|should have been|Credential should).*", re.DOTALL)
"""What a server says of a wrong signature repeats the request's headers, a session's token among them."""

LOGINS: Final = re.compile(r"(?<=://)[^\s/\"']*@")
QUERIES: Final = re.compile(r"(?<=://)([^\s?\"']*)\?[^\s\"']*")
"""Of a proxy's URL, or an endpoint's, which the environment names."""


def clean(error: BaseException) -> None:
    """Take what is not for logs from what a server says, and from all that this was raised from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        _clean_one(found)
        found = found.__cause__ or found.__context__


def _clean_one(error: BaseException) -> None:
    if isinstance(error, botocore.CredentialRetrievalError):
        # What a credential process prints may be the credentials.
        provider = details_of(error).get("provider", "somewhere")
        error.args = (f"Error when retrieving credentials from {provider}",)
        details_of(error).pop("error_msg", None)
    else:
        error.args = tuple(_cleaned(each) for each in error.args)
    if isinstance(error, JSONDecodeError):
        error.doc = ""  # such a process' output
    if isinstance(error, ClientResponseError):
        shown = error.request_info.real_url.with_user(None).with_query(None)
        error.request_info = error.request_info._replace(url=shown, headers=cast("Any", {}), real_url=shown)
        error.args = (error.request_info, ())
    if isinstance(error, botocore.HTTPClientError):
        error.request = None  # its headers hold the session's token
        details_of(error).pop("request", None)
    for told in (answer_of(error).get("Error", {}), details_of(error)):
        told.update({name: _cleaned(text) for name, text in told.items()})


def _cleaned(text: object) -> object:
    if not isinstance(text, str):
        return text
    text = WORDY.sub("…", KEY_IDS.sub("****", text))
    return QUERIES.sub(r"\1?****", LOGINS.sub("****@", text))


def plain_address(url: str) -> str:
    """A URL without what may be secret in it, for the texts of errors."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the endpoint that the environment names"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
