"""Outcome of a failed request: whether it may have taken effect, and whether to retry it."""

from enum import Enum
from typing import Any, Final

import aiohttp
from botocore import exceptions as botocore  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_aws.error_codes import THROTTLED

__all__ = ["NotAwsError", "Outcome", "code_of", "details_of", "outcome_of", "response_of", "status_of"]

TOO_MANY_REQUESTS: Final = 429
"""HTTP status of a gateway that throttles, with any error code."""


class Outcome(Enum):
    """Outcome of a failed request."""

    NO_EFFECT = "the request had no effect, and a retry may succeed"
    UNKNOWN = "the request may have taken effect"
    FINAL = "the request had no effect, and a retry does not help"


class NotAwsError(Exception):
    """The response does not come from an AWS service, but from a proxy, say. botocore reads it as an empty one."""

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"the response does not come from an AWS service: its content type is {content_type or 'missing'}"
        )


UNKNOWN: Final = (botocore.HTTPClientError, botocore.IncompleteReadError, aiohttp.ClientError, OSError, NotAwsError)
"""Errors after which the request may have taken effect."""


def outcome_of(error: Exception) -> Outcome:
    """Return the outcome of the request that raised this error."""
    if isinstance(error, botocore.ClientError):
        if code_of(error) in THROTTLED or status_of(error) == TOO_MANY_REQUESTS:
            return Outcome.NO_EFFECT
        # 500 and 503 do not say whether the service failed before or after the effect.
        return Outcome.UNKNOWN if status_of(error) >= 500 else Outcome.FINAL
    if isinstance(error, botocore.ConnectTimeoutError):
        return Outcome.NO_EFFECT
    if isinstance(error, botocore.ProxyConnectionError):
        # The proxy was not reached, or did not reach the service; or it demands a login.
        return Outcome.NO_EFFECT if isinstance(_cause_of(error), aiohttp.ClientConnectorError) else Outcome.FINAL
    if isinstance(error, botocore.SSLError):
        return Outcome.FINAL
    if isinstance(error, botocore.EndpointConnectionError):
        # aiobotocore also raises it for connections that broke after the request was sent.
        return Outcome.NO_EFFECT if isinstance(_cause_of(error), aiohttp.ClientConnectorError) else Outcome.UNKNOWN
    if isinstance(error, UNKNOWN):
        return Outcome.UNKNOWN
    # botocore raises ResponseParserError for unreadable responses; it does not derive from BotoCoreError.
    return Outcome.UNKNOWN if type(error).__name__ == "ResponseParserError" else Outcome.FINAL


def code_of(error: BaseException) -> str:
    """Return the service's error code, or an empty text if the service did not respond."""
    return str(response_of(error).get("Error", {}).get("Code", ""))


def status_of(error: BaseException) -> int:
    """Return the HTTP status of the response, or 0 without a response."""
    return int(response_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def response_of(error: BaseException) -> dict[str, Any]:
    """Return the service's response, or an empty one if the error is not a response."""
    response: dict[str, Any] = vars(error).get("response", {}) if isinstance(error, botocore.ClientError) else {}
    return response


def details_of(error: BaseException) -> dict[str, Any]:
    """Return the values that botocore formats into an error's message."""
    details: dict[str, Any] = vars(error).get("kwargs", {})
    return details


def _cause_of(error: BaseException) -> object:
    return details_of(error).get("error") or error.__cause__ or error.__context__
