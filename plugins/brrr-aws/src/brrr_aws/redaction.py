"""Removal of secrets from errors: request headers that servers repeat, logins in URLs, output of processes."""

import re
from json import JSONDecodeError
from typing import Any, Final, cast
from urllib.parse import urlsplit

from aiohttp import ClientResponseError
from botocore import exceptions as botocore  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_aws.outcome import details_of, response_of
from brrr_core.backend import causes_of

__all__ = ["public_address", "redact"]

KEY_IDS: Final = re.compile(r"\b(?:AKIA|ASIA|AKID|AROA|AIDA)[A-Z0-9]{4,}")
"""Ids of access keys, which servers repeat."""

SIGNATURE_DETAILS: Final = re.compile(
    r"(?:Canonical String|String-to-Sign|should have been|Credential should).*", re.DOTALL
)
"""Details of a wrong signature. They repeat the headers of the request, which may hold a session token."""

URL_LOGINS: Final = re.compile(r"(?<=://)[^\s/\"']*@")
URL_QUERIES: Final = re.compile(r"(?<=://)([^\s?\"']*)\?[^\s\"']*")
"""Queries of the URLs of proxies and endpoints, which come from the environment."""


def redact(error: BaseException) -> None:
    """Remove secrets from an error and from its causes and contexts."""
    for each in causes_of(error):
        _redact_one(each)


def _redact_one(error: BaseException) -> None:
    if isinstance(error, botocore.CredentialRetrievalError):
        # The output of a credential process may contain the credentials.
        provider = details_of(error).get("provider", "somewhere")
        error.args = (f"Error when retrieving credentials from {provider}",)
        details_of(error).pop("error_msg", None)
    else:
        error.args = tuple(_redacted(each) for each in error.args)
    if isinstance(error, JSONDecodeError):
        error.doc = ""  # the output of a credential process
    if isinstance(error, ClientResponseError):
        shown = error.request_info.real_url.with_user(None).with_query(None)
        error.request_info = error.request_info._replace(url=shown, headers=cast("Any", {}), real_url=shown)
        error.args = (error.request_info, ())
    if isinstance(error, botocore.HTTPClientError):
        error.request = None  # its headers hold the session token
        details_of(error).pop("request", None)
    for texts in (response_of(error).get("Error", {}), details_of(error)):
        texts.update({name: _redacted(text) for name, text in texts.items()})


def _redacted(text: object) -> object:
    if not isinstance(text, str):
        return text
    text = SIGNATURE_DETAILS.sub("…", KEY_IDS.sub("****", text))
    return URL_QUERIES.sub(r"\1?****", URL_LOGINS.sub("****@", text))


def public_address(url: str) -> str:
    """Return a URL without its login and its query, for error messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the endpoint that the environment names"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
