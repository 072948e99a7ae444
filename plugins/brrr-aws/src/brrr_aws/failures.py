"""What the errors of AWS and of the way there mean to a user: which error of brrr's, and what to do."""

from dataclasses import dataclass
from typing import Final

from botocore import exceptions as botocore  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from brrr_aws.cleaning import clean
from brrr_aws.codes import CLOCKS, DENIED, EXPIRED, MISSING, SIGNED_WRONG, STRANGERS, THROTTLED
from brrr_aws.fates import TOO_MANY, Fate, answer_of, code_of, fate_of, status_of
from brrr_core.errors import BackendClosedError, BackendError, BackendRefusedError, BackendUnavailableError, BrrrError

__all__ = ["AnswerLostError", "Asked", "AwsRefusal", "closed", "late", "lost", "translated"]

SLOWER: Final = "Raise the limits of {subject} or of the account, run fewer workers, or raise retry_for."

LOOK: Final = "What was asked for may have been done; look before you ask again."


class AnswerLostError(BackendUnavailableError):
    """There is no answer to a request that may have been done."""


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

    @property
    def who(self) -> str:
        """Who was asked."""
        return f"{self.service} at {self.where}"

    @property
    def doing(self) -> str:
        """What for."""
        return f"{self.operation} of {self.subject}"


def translated(error: Exception, asked: Asked) -> BrrrError:
    """The error for the user, cleaned of secrets, with its cause."""
    if isinstance(error, BrrrError):
        return error
    clean(error)
    ours = _answered(error, asked) if answer_of(error) else _unanswered(error, asked)
    ours.__cause__ = error
    return ours


def closed() -> BackendClosedError:
    """The error of what is asked of a closed backend."""
    return BackendClosedError("this backend was closed", remedy="Use it inside `async with`.")


def late(asked: Asked, within: float, why: str) -> BackendUnavailableError:
    """The error of an operation that the service did in part, and not wholly within so many seconds."""
    return BackendUnavailableError(
        f"{asked.who} did not get done with {asked.doing} within {within:g} s ({why})",
        remedy=SLOWER.format(subject=asked.subject),
    )


def lost(asked: Asked, error: BrrrError) -> AnswerLostError:
    """The error of an operation that failed in the service, and may have been done."""
    return AnswerLostError(f"{asked.who} failed in {asked.doing} ({error.what})", remedy=LOOK)


def _answered(error: Exception, asked: Asked) -> BrrrError:
    code, who, doing = code_of(error), asked.who, asked.doing
    says = str(answer_of(error).get("Error", {}).get("Message", "")) or code
    if code in THROTTLED or status_of(error) == TOO_MANY:
        return BackendUnavailableError(f"{who} throttles {doing} ({code})", remedy=SLOWER.format(subject=asked.subject))
    if code in DENIED:
        return BackendError(
            f"{who} does not permit {doing} ({says})",
            remedy="Give the role or user the permissions that README.md lists.",
        )
    if code in EXPIRED:
        return BackendRefusedError(
            f"the credentials for {who} have expired", remedy="Renew them, as with `aws sso login`."
        )
    if code in CLOCKS or "Signature expired" in says or "Signature not yet current" in says:
        return BackendRefusedError(f"{who} says that this machine's clock is wrong", remedy="Set it, by NTP.")
    if code in STRANGERS or code in SIGNED_WRONG:
        return BackendError(
            f"{who} does not know these credentials ({code})",
            remedy="Check the keys of the environment or the profile, whose account they are of, and the region.",
        )
    if code in MISSING:
        return BackendError(f"there is no {asked.subject.removeprefix('the ')} at {asked.where}", remedy=asked.missing)
    if status_of(error) >= 500:
        return BackendUnavailableError(
            f"{who} failed in {doing} ({status_of(error)} {code})",
            remedy="See its health dashboard; trying again later can help.",
        )
    return BackendError(f"{who} refuses {doing} ({code}: {says})", remedy="See what it says.")


def _unanswered(error: Exception, asked: Asked) -> BrrrError:
    who = asked.who
    if isinstance(error, (botocore.NoCredentialsError, botocore.PartialCredentialsError, botocore.NoAuthTokenError)):
        return BackendError(
            f"there are no credentials for {who}",
            remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with ?profile=…, "
            "or run where a role is attached.",
        )
    if isinstance(
        error, (botocore.CredentialRetrievalError, botocore.TokenRetrievalError, botocore.UnauthorizedSSOTokenError)
    ) or type(error).__name__.startswith("SSO"):
        return BackendRefusedError(
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
        return BackendRefusedError(
            f"there is no secure connection to {who} ({error})",
            remedy="See to its certificate, or AWS_CA_BUNDLE; an emulator often speaks http: only.",
        )
    fate, says = fate_of(error), str(error) or type(error).__name__
    if fate is Fate.LOST:
        return AnswerLostError(f"the answer of {who} to {asked.operation} was lost ({says})", remedy=LOOK)
    if fate is Fate.REFUSED or isinstance(error, botocore.ProxyConnectionError):
        return BackendUnavailableError(
            f"{who} cannot be reached ({says})",
            remedy="Check the endpoint and the region of the URL, the network, and that an emulator is running.",
        )
    if not asked.operation:
        return BackendError(
            f"there is no client of {who} ({says})",
            remedy="See your AWS configuration files, and what the profile's credential process prints.",
        )
    return BackendError(f"{who} cannot be used ({says})", remedy="See what it says.")
