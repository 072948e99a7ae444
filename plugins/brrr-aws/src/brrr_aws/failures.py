"""What the errors of AWS and of the way there mean: whether to try again, and what to tell the user."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import aiohttp
from botocore import exceptions as botocore  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_core.errors import BackendError, BackendUnavailableError, BrrrError

__all__ = [
    "AnswerLostError",
    "Asked",
    "AwsRefusal",
    "Fate",
    "StrangerError",
    "answer_of",
    "clean",
    "code_of",
    "fate_of",
    "translated",
]

THROTTLED: Final = frozenset(
    (
        "ProvisionedThroughputExceededException",
        "ProvisionedThroughputExceeded",
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "PriorRequestNotComplete",
        "KmsThrottled",
        "KMS.ThrottlingException",
    )
)
"""Answers after which nothing was done, and after which the same request may succeed."""

DENIED: Final = frozenset(
    (
        "AccessDeniedException",
        "AccessDenied",
        "UnauthorizedOperation",
        "NotAuthorized",
        "KmsAccessDenied",
        "KMS.AccessDeniedException",
    )
)
EXPIRED: Final = frozenset(("ExpiredTokenException", "ExpiredToken", "RequestExpired"))
STRANGERS: Final = frozenset(
    (
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "AuthFailure",
        "OptInRequired",
    )
)
SIGNED_WRONG: Final = frozenset(("InvalidSignatureException", "SignatureDoesNotMatch"))
CLOCKS: Final = frozenset(("RequestTimeTooSkewed", "RequestInTheFuture"))
MISSING: Final = frozenset(
    (
        "ResourceNotFoundException",
        "TableNotFoundException",
        "QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue",
    )
)

KEY_IDS: Final = re.compile(r"\b(?:AKIA|ASIA|AKID|AROA|AIDA)[A-Z0-9]{4,}")
"""Ids of access keys, which servers repeat."""

WORDY: Final = re.compile(r"(?:Canonical String|String-to-Sign|should have been|Credential should).*", re.DOTALL)
"""What a server says of a wrong signature repeats the request's headers, a session's token among them."""


class Fate(Enum):
    """What became of a request that failed."""

    REFUSED = "it was not done, and may be done if it is asked for again"
    LOST = "nobody knows whether it was done"
    FINAL = "it was not done, and asking again does not help"


class AnswerLostError(BackendUnavailableError):
    """There is no answer to a request that may have been done."""


class StrangerError(Exception):
    """What answers is no service of AWS: a proxy's page, say. botocore takes it for an answer that is empty."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"what answered is no service of AWS: its content type is {kind or 'not given'}")


class AwsRefusal(Exception):  # noqa: N818 - an answer, which the caller has asked to be told of
    """A refusal that the caller expects.

    Args:
        code: What the service calls it.
        answer: All that it says.
    """

    def __init__(self, code: str, answer: dict[str, object]) -> None:
        super().__init__(code)
        self.code = code
        self.answer = answer


LOSING: Final = (botocore.HTTPClientError, botocore.IncompleteReadError, aiohttp.ClientError, OSError, StrangerError)
"""After these nobody knows whether a request was done."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, for the texts of errors.

    Attributes:
        service: As in `dynamodb`.
        operation: As in `BatchGetItem`; empty while the client is made.
        where: The address of the service.
        subject: What of it is used, as in `the table jobs`.
        missing: What to do if that is not there, as one sentence.
    """

    service: str
    operation: str
    where: str
    subject: str
    missing: str


def code_of(error: BaseException) -> str:
    """What the service calls its refusal; empty where it is none."""
    return str(answer_of(error).get("Error", {}).get("Code", ""))


def answer_of(error: BaseException) -> dict[str, Any]:
    """What the service answered; empty where the error is no answer."""
    found: dict[str, Any] = vars(error).get("response", {}) if isinstance(error, botocore.ClientError) else {}
    return found


def _status_of(error: BaseException) -> int:
    return int(answer_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def fate_of(error: Exception) -> Fate:
    """What became of the request."""
    if isinstance(error, botocore.ClientError):
        if code_of(error) in THROTTLED:
            return Fate.REFUSED
        # 500 and 503 say that something went wrong, and not when.
        return Fate.LOST if _status_of(error) >= 500 else Fate.FINAL
    if isinstance(error, botocore.ConnectTimeoutError):
        return Fate.REFUSED
    if isinstance(error, (botocore.SSLError, botocore.ProxyConnectionError)):
        return Fate.FINAL
    if isinstance(error, botocore.EndpointConnectionError):
        # aiobotocore raises it for connections that broke in the middle, too.
        return Fate.REFUSED if isinstance(_cause_of(error), aiohttp.ClientConnectorError) else Fate.LOST
    if isinstance(error, LOSING):
        return Fate.LOST
    # Of the answers that cannot be read at all, ResponseParserError is the class, outside of BotoCoreError.
    return Fate.LOST if type(error).__name__ == "ResponseParserError" else Fate.FINAL


def _cause_of(error: BaseException) -> object:
    return _details_of(error).get("error") or error.__cause__ or error.__context__


def _details_of(error: BaseException) -> dict[str, Any]:
    """What botocore's text of an error is made of."""
    found: dict[str, Any] = vars(error).get("kwargs", {})
    return found


def clean(error: BaseException) -> None:
    """Take what is not for logs from what a server says, and from all that this was raised from."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, botocore.CredentialRetrievalError):
            # What a credential process prints may be the credentials.
            found.args = (f"Error when retrieving credentials from {_details_of(found).get('provider', 'somewhere')}",)
        else:
            found.args = tuple(_cleaned(each) if isinstance(each, str) else each for each in found.args)
        told: dict[str, object] = answer_of(found).get("Error", {})
        told.update({name: _cleaned(text) for name, text in told.items() if isinstance(text, str)})
        found = found.__cause__ or found.__context__


def _cleaned(text: str) -> str:
    return WORDY.sub("…", KEY_IDS.sub("****", text))


def translated(error: Exception, asked: Asked) -> BrrrError:
    """The error for the user, cleaned of secrets, with its cause."""
    if isinstance(error, BrrrError):
        return error
    clean(error)
    ours = _answered(error, asked) if answer_of(error) else _unanswered(error, asked)
    ours.__cause__ = error
    return ours


def _answered(error: Exception, asked: Asked) -> BrrrError:
    code, who = code_of(error), f"{asked.service} at {asked.where}"
    says = str(answer_of(error).get("Error", {}).get("Message", "")) or code
    doing = f"{asked.operation} of {asked.subject}"
    if code in THROTTLED:
        return BackendUnavailableError(
            f"{who} throttles {doing} ({code})",
            remedy="Raise the table's or the account's limits, run fewer workers, or raise retry_for.",
        )
    if code in DENIED:
        return BackendError(
            f"{who} does not permit {doing} ({says})",
            remedy="Give the role or user the permissions that README.md lists.",
        )
    if code in EXPIRED:
        return BackendUnavailableError(
            f"the credentials for {who} have expired", remedy="Renew them, as with `aws sso login`."
        )
    if code in CLOCKS or "Signature expired" in says or "Signature not yet current" in says:
        return BackendUnavailableError(f"{who} says that this machine's clock is wrong", remedy="Set it, by NTP.")
    if code in STRANGERS or code in SIGNED_WRONG:
        return BackendError(
            f"{who} does not know these credentials ({code})",
            remedy="Check the access key of the environment or the profile, and whose account it is of.",
        )
    if code in MISSING:
        return BackendError(f"there is no {asked.subject.removeprefix('the ')} at {asked.where}", remedy=asked.missing)
    if _status_of(error) >= 500:
        return BackendUnavailableError(
            f"{who} failed in {doing} ({_status_of(error)} {code})",
            remedy="See its health dashboard; trying again later can help.",
        )
    return BackendError(f"{who} refuses {doing} ({code}: {says})", remedy="See what it says.")


def _unanswered(error: Exception, asked: Asked) -> BrrrError:
    who = f"{asked.service} at {asked.where}"
    if isinstance(error, (botocore.NoCredentialsError, botocore.PartialCredentialsError, botocore.NoAuthTokenError)):
        return BackendError(
            f"there are no credentials for {who}",
            remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with ?profile=…, "
            "or run where a role is attached.",
        )
    if isinstance(
        error, (botocore.CredentialRetrievalError, botocore.TokenRetrievalError, botocore.UnauthorizedSSOTokenError)
    ) or type(error).__name__.startswith("SSO"):
        return BackendUnavailableError(
            f"the credentials for {who} cannot be had ({type(error).__name__})",
            remedy="Renew the login, as with `aws sso login`, or see to the profile's credential process.",
        )
    if isinstance(error, (botocore.ProfileNotFound, botocore.ConfigNotFound, botocore.ConfigParseError)):
        return BackendError(f"AWS' configuration cannot be used ({error})", remedy="See your AWS configuration file.")
    if isinstance(error, botocore.NoRegionError):
        return BackendError(
            f"no region is named for {asked.service}", remedy="Add ?region=eu-west-1 to the URL, or set AWS_REGION."
        )
    if isinstance(error, botocore.SSLError):
        return BackendUnavailableError(
            f"there is no secure connection to {who} ({error})",
            remedy="See to its certificate, or AWS_CA_BUNDLE; an emulator often speaks http: only.",
        )
    fate, says = fate_of(error), str(error) or type(error).__name__
    if fate is Fate.LOST:
        return AnswerLostError(
            f"the answer of {who} to {asked.operation} was lost ({says})",
            remedy="What was asked for may have been done; look before you ask again.",
        )
    if fate is Fate.REFUSED or isinstance(error, botocore.ProxyConnectionError):
        return BackendUnavailableError(
            f"{who} cannot be reached ({says})",
            remedy="Check the endpoint and the region of the URL, the network, and that an emulator is running.",
        )
    return BackendError(f"{who} cannot be used ({says})", remedy="See what it says.")
