"""Translation of the errors of AWS and of the network into brrr's errors, with remedies."""

from dataclasses import dataclass
from typing import Final

from botocore import exceptions as botocore  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_aws.error_codes import (
    ACCESS_DENIED,
    EXPIRED_CREDENTIALS,
    NOT_FOUND,
    THROTTLED,
    UNKNOWN_CREDENTIALS,
    WRONG_CLOCK,
    WRONG_SIGNATURE,
)
from brrr_aws.outcome import TOO_MANY_REQUESTS, Outcome, code_of, outcome_of, response_of, status_of
from brrr_aws.redaction import redact
from brrr_core.errors import BackendError, BackendRefusedError, BackendUnavailableError, BrrrError

__all__ = [
    "AnswerLostError",
    "AwsRefusal",
    "RequestContext",
    "incomplete_error",
    "lost_error",
    "translate",
]

LIMITS_REMEDY: Final = "Raise the limits of {subject} or of the account, run fewer workers, or raise `retry_for`."

LOST_REMEDY: Final = "The operation may have taken effect. Check before you repeat it."


class AnswerLostError(BackendUnavailableError):
    """The response is missing, and the request may have taken effect."""


class AwsRefusal(Exception):  # noqa: N818 - not a failure: the caller expects this response
    """Refusal that the caller expects.

    Args:
        code: The service's error code.
        response: The whole response.
    """

    def __init__(self, code: str, response: dict[str, object]) -> None:
        super().__init__(code)
        self.code = code
        self.response = response


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Description of a request, for error messages.

    Attributes:
        service: Name of the service, such as `dynamodb`.
        operation: Name of the operation, such as `BatchGetItem`; empty while the client is created.
        address: Address of the service.
        subject: The part of the service that is used, such as `the table jobs`.
        missing: Remedy for a missing subject, in one sentence.
    """

    service: str
    operation: str
    address: str
    subject: str
    missing: str

    @property
    def server(self) -> str:
        """The service and its address."""
        return f"{self.service} at {self.address}"

    @property
    def action(self) -> str:
        """The operation and its subject."""
        return f"{self.operation} of {self.subject}"


def translate(error: Exception, context: RequestContext) -> BrrrError:
    """Return brrr's error for an error of the client library, with the redacted original as its cause."""
    if isinstance(error, BrrrError):
        return error
    redact(error)
    ours = _with_response(error, context) if response_of(error) else _without_response(error, context)
    ours.__cause__ = error
    return ours


def incomplete_error(context: RequestContext, within: float, reason: str) -> BackendUnavailableError:
    """Return the error of an operation that succeeded only in part within `within` seconds."""
    return BackendUnavailableError(
        f"{context.server} did not complete {context.action} within {within:g} s ({reason})",
        remedy=LIMITS_REMEDY.format(subject=context.subject),
    )


def lost_error(context: RequestContext, error: BrrrError) -> AnswerLostError:
    """Return the error of an operation that failed inside the service and may have taken effect."""
    return AnswerLostError(f"{context.server} failed in {context.action} ({error.what})", remedy=LOST_REMEDY)


def _with_response(error: Exception, context: RequestContext) -> BrrrError:
    code, server, action = code_of(error), context.server, context.action
    message = str(response_of(error).get("Error", {}).get("Message", "")) or code
    if code in THROTTLED or status_of(error) == TOO_MANY_REQUESTS:
        return BackendUnavailableError(
            f"{server} throttles {action} ({code})", remedy=LIMITS_REMEDY.format(subject=context.subject)
        )
    if code in ACCESS_DENIED:
        return BackendError(
            f"{server} does not permit {action} ({message})",
            remedy="Give the role or user the permissions that the plugin's README.md lists.",
        )
    if code in EXPIRED_CREDENTIALS:
        return BackendRefusedError(
            f"the credentials for {server} have expired", remedy="Renew them, for example with `aws sso login`."
        )
    if code in WRONG_CLOCK or "Signature expired" in message or "Signature not yet current" in message:
        return BackendRefusedError(f"{server} says that this machine's clock is wrong", remedy="Set the clock by NTP.")
    if code in UNKNOWN_CREDENTIALS or code in WRONG_SIGNATURE:
        return BackendError(
            f"{server} does not know these credentials ({code})",
            remedy="Check the keys in the environment or the profile, the account that they belong to, and the region.",
        )
    if code in NOT_FOUND:
        return BackendError(f"{context.subject} does not exist at {context.address}", remedy=context.missing)
    if status_of(error) >= 500:
        return BackendUnavailableError(
            f"{server} failed in {action} ({status_of(error)} {code})",
            remedy="Look at the AWS Health Dashboard, and try again later.",
        )
    return BackendError(
        f"{server} refuses {action} ({code}: {message})",
        remedy="Fix the problem that the message of the service describes.",
    )


def _without_response(error: Exception, context: RequestContext) -> BrrrError:
    server = context.server
    if isinstance(error, (botocore.NoCredentialsError, botocore.PartialCredentialsError, botocore.NoAuthTokenError)):
        return BackendError(
            f"no credentials for {server} were found",
            remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with ?profile=…, "
            "or run on a machine that has a role.",
        )
    if isinstance(
        error, (botocore.CredentialRetrievalError, botocore.TokenRetrievalError, botocore.UnauthorizedSSOTokenError)
    ) or type(error).__name__.startswith("SSO"):
        return BackendRefusedError(
            f"the credentials for {server} cannot be retrieved ({type(error).__name__})",
            remedy="Renew the login, for example with `aws sso login`, or check the profile's credential process.",
        )
    if isinstance(error, (botocore.ProfileNotFound, botocore.ConfigNotFound, botocore.ConfigParseError)):
        return BackendError(
            f"the AWS configuration cannot be used ({error})", remedy="Correct your AWS configuration file."
        )
    if isinstance(error, botocore.NoRegionError):
        return BackendError(
            f"the region of {context.service} is not set", remedy="Add ?region=eu-west-1 to the URL, or set AWS_REGION."
        )
    if isinstance(error, botocore.SSLError):
        return BackendRefusedError(
            f"the TLS connection to {server} failed ({error})",
            remedy="Check its certificate and AWS_CA_BUNDLE. For an emulator without TLS, use an http: endpoint.",
        )
    outcome, message = outcome_of(error), str(error) or type(error).__name__
    if outcome is Outcome.UNKNOWN:
        return AnswerLostError(
            f"the response of {server} to {context.operation} was lost ({message})", remedy=LOST_REMEDY
        )
    if outcome is Outcome.NO_EFFECT or isinstance(error, botocore.ProxyConnectionError):
        return BackendUnavailableError(
            f"{server} cannot be reached ({message})",
            remedy="Check the endpoint and the region of the URL, the network, and that an emulator is running.",
        )
    if not context.operation:
        return BackendError(
            f"the client of {server} cannot be created ({message})",
            remedy="Check your AWS configuration files, and the output of the profile's credential process.",
        )
    return BackendError(f"{server} cannot be used ({message})", remedy="Fix the problem that the message describes.")
