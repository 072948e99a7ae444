"""What became of a request that failed: whether it was done, and whether to ask again."""

from enum import Enum
from typing import Any, Final

import aiohttp
from botocore import exceptions as botocore  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_aws.codes import THROTTLED

__all__ = ["Fate", "StrangerError", "answer_of", "code_of", "details_of", "fate_of", "status_of"]

TOO_MANY: Final = 429
"""The status of a gateway that throttles, whatever it calls that."""


class Fate(Enum):
    """What became of a request that failed."""

    REFUSED = "it was not done, and may be done if it is asked for again"
    LOST = "nobody knows whether it was done"
    FINAL = "it was not done, and asking again does not help"


class StrangerError(Exception):
    """What answers is no service of AWS: a proxy's page, say. botocore takes it for an answer that is empty."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"what answered is no service of AWS: its content type is {kind or 'not given'}")


LOSING: Final = (botocore.HTTPClientError, botocore.IncompleteReadError, aiohttp.ClientError, OSError, StrangerError)
"""After these nobody knows whether a request was done."""


def fate_of(error: Exception) -> Fate:
    """What became of the request."""
    if isinstance(error, botocore.ClientError):
        if code_of(error) in THROTTLED or status_of(error) == TOO_MANY:
            return Fate.REFUSED
        # 500 and 503 say that something went wrong, and not when.
        return Fate.LOST if status_of(error) >= 500 else Fate.FINAL
    if isinstance(error, botocore.ConnectTimeoutError):
        return Fate.REFUSED
    if isinstance(error, botocore.ProxyConnectionError):
        # The proxy was not reached, or did not reach the service; or it wants a login.
        return Fate.REFUSED if isinstance(_cause_of(error), aiohttp.ClientConnectorError) else Fate.FINAL
    if isinstance(error, botocore.SSLError):
        return Fate.FINAL
    if isinstance(error, botocore.EndpointConnectionError):
        # aiobotocore raises it for connections that broke in the middle, too.
        return Fate.REFUSED if isinstance(_cause_of(error), aiohttp.ClientConnectorError) else Fate.LOST
    if isinstance(error, LOSING):
        return Fate.LOST
    # Of the answers that cannot be read at all, ResponseParserError is the class, outside of BotoCoreError.
    return Fate.LOST if type(error).__name__ == "ResponseParserError" else Fate.FINAL


def code_of(error: BaseException) -> str:
    """What the service calls its refusal; empty where it is none."""
    return str(answer_of(error).get("Error", {}).get("Code", ""))


def status_of(error: BaseException) -> int:
    """The answer's HTTP status; 0 where there is none."""
    return int(answer_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def answer_of(error: BaseException) -> dict[str, Any]:
    """What the service answered; empty where the error is no answer."""
    found: dict[str, Any] = vars(error).get("response", {}) if isinstance(error, botocore.ClientError) else {}
    return found


def details_of(error: BaseException) -> dict[str, Any]:
    """What botocore's text of an error is made of."""
    found: dict[str, Any] = vars(error).get("kwargs", {})
    return found


def _cause_of(error: BaseException) -> object:
    return details_of(error).get("error") or error.__cause__ or error.__context__
