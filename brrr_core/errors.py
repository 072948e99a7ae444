"""All errors of brrr. Each has a stable code, says what happened, and gives a remedy.

The codes are public: a code never changes its meaning. An error message contains no secrets. The error of a client
library is chained as the cause.
"""

from typing import ClassVar, NamedTuple

from brrr_core.safe_text import sentence

__all__ = [
    "AlreadyRegisteredError",
    "ArgumentError",
    "AwaitError",
    "BackendClosedError",
    "BackendError",
    "BackendRefusedError",
    "BackendUnavailableError",
    "BlockingCallError",
    "BodyTooLargeError",
    "BrokenPluginError",
    "BrrrError",
    "BuriedError",
    "CallFailedError",
    "CapabilityError",
    "Cause",
    "ClashError",
    "CodecError",
    "CommandError",
    "ContractError",
    "ContractVersionError",
    "CorruptBackendError",
    "CycleError",
    "DeadlineExceededError",
    "DecodeError",
    "EncodeError",
    "ForkedError",
    "HandlerError",
    "LifespanError",
    "MalformedRecordError",
    "NondeterminismError",
    "NotFoundError",
    "NotInTaskError",
    "NotInstalledError",
    "OptionError",
    "PluginError",
    "PolicyError",
    "RecordMissingError",
    "ResultDecodeError",
    "ResultTimeoutError",
    "RoleError",
    "RuleBrokenError",
    "ScheduleCancelledError",
    "SignatureError",
    "SpawnLimitError",
    "StillNeededError",
    "TerminalError",
    "UnknownSchemeError",
    "UnknownTaskError",
    "UnknownTopicError",
    "UrlError",
    "ValueTooLargeError",
    "VersionError",
    "WaitTooLongError",
    "WorkersDiedError",
]


class BrrrError(Exception):
    """Base class of all errors of brrr.

    Args:
        what: What happened, with the values, as a sentence without its full stop.
        remedy: How to fix it, as a sentence.
    """

    code: ClassVar[str] = "BRRR-00"
    retry: ClassVar[bool] = True
    """Whether a retry of the call can help. If not, the engine dead-letters its message immediately."""

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"[{self.code}] {sentence(self.what)} {self.remedy}".rstrip()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.remedy), self.__dict__)


def _rebuild(kind: type[BrrrError], what: str, remedy: str) -> BrrrError:
    return kind(what, remedy=remedy)


class MalformedRecordError(BrrrError):
    """Bytes from a queue or a store that are not a valid protocol record."""

    code = "BRRR-WIRE-01"
    retry = False


class UrlError(BrrrError):
    """A backend URL that is not valid."""

    code = "BRRR-URL-01"


class OptionError(BrrrError):
    """A URL option that is unknown, repeated, missing or of the wrong type."""

    code = "BRRR-URL-02"


class PluginError(BrrrError):
    """Base class of errors in finding and loading plugins."""

    code = "BRRR-PLUGIN-00"


class UnknownSchemeError(PluginError):
    """A scheme or codec name that no installed or known plugin provides."""

    code = "BRRR-PLUGIN-01"


class NotInstalledError(PluginError):
    """The plugin of this scheme, codec or command is known, but it is not installed."""

    code = "BRRR-PLUGIN-02"


class BrokenPluginError(PluginError):
    """An installed plugin or command that cannot be loaded, or that has no valid manifest or function."""

    code = "BRRR-PLUGIN-03"


class RoleError(PluginError):
    """A backend does not offer the role for which it was passed."""

    code = "BRRR-PLUGIN-04"


class ClashError(PluginError):
    """Two distributions provide the same scheme, codec or command, or one provides a name of this project's plugins."""

    code = "BRRR-PLUGIN-05"


class ContractVersionError(PluginError):
    """A plugin was written for another version of the contracts."""

    code = "BRRR-PLUGIN-06"


class AlreadyRegisteredError(PluginError):
    """`register` was called with a scheme or name that is already registered."""

    code = "BRRR-PLUGIN-07"


class BackendError(BrrrError):
    """Base class of the errors of backends."""

    code = "BRRR-BACKEND-00"


class BackendUnavailableError(BackendError):
    """The server, file or network of a backend does not answer. A later retry can help."""

    code = "BRRR-BACKEND-01"


class BackendRefusedError(BackendUnavailableError):
    """The server refuses this client. Fix its login, certificate or account."""

    code = "BRRR-BACKEND-09"


class BackendClosedError(BackendError):
    """The backend is not open yet, or is closed."""

    code = "BRRR-BACKEND-02"


class CapabilityError(BackendError):
    """An operation needs a capability that the backend does not declare in its manifest."""

    code = "BRRR-BACKEND-03"
    retry = False


class WaitTooLongError(CapabilityError):
    """A wait is so long that values that its call needs could expire before its end."""

    code = "BRRR-BACKEND-10"


class BodyTooLargeError(BackendError):
    """A message body is larger than the declared limit of the queue."""

    code = "BRRR-BACKEND-04"
    retry = False


class ValueTooLargeError(BackendError):
    """A record is larger than the declared limit of the store."""

    code = "BRRR-BACKEND-05"
    retry = False


class CorruptBackendError(BackendError):
    """The stored data is damaged, or a newer version of the backend wrote it."""

    code = "BRRR-BACKEND-06"


class ForkedError(BackendError):
    """An open backend was used in another process, after a fork or by pickling."""

    code = "BRRR-BACKEND-07"


class ArgumentError(BackendError, ValueError):
    """An argument that the contract does not allow, such as a limit below 1, a negative delay or an empty topic."""

    code = "BRRR-BACKEND-08"
    retry = False


class CodecError(BrrrError):
    """Base class of errors in encoding and decoding."""

    code = "BRRR-CODEC-00"


class EncodeError(CodecError):
    """An argument or result that the codec cannot encode."""

    code = "BRRR-CODEC-01"
    retry = False


class DecodeError(CodecError):
    """Bytes that the codec cannot decode to the type that the handler or the caller expects."""

    code = "BRRR-CODEC-02"


class ResultDecodeError(DecodeError):
    """A stored result that is not of the type that its reader expects. A stored result never changes."""

    code = "BRRR-CODEC-03"
    retry = False


class HandlerError(BrrrError):
    """A function that cannot be a handler, or handlers that cannot be registered together."""

    code = "BRRR-APP-01"


class UnknownTaskError(BrrrError):
    """A call of a task for which this application has no handler."""

    code = "BRRR-APP-02"


class NotInTaskError(BrrrError):
    """A function that works only inside a running handler was called outside one."""

    code = "BRRR-APP-03"


class SignatureError(BrrrError):
    """Arguments that do not match the parameters of the handler."""

    code = "BRRR-APP-04"
    retry = False


class AwaitError(BrrrError, TypeError):
    """A handler did not await a call, or passed an argument that is not awaitable to `gather` or `wait`."""

    code = "BRRR-APP-05"
    retry = False


class LifespanError(BrrrError):
    """The lifespan of an application failed, or its state was used before it was made or after it was closed."""

    code = "BRRR-APP-06"


class BlockingCallError(BrrrError):
    """A method of `brrr.sync` was called in a thread with a running event loop, which it would block."""

    code = "BRRR-APP-07"


class NotFoundError(BrrrError):
    """The call has no value yet."""

    code = "BRRR-CALL-01"


class StillNeededError(BrrrError):
    """A call cannot be forgotten, because it has no outcome yet or other calls wait for it."""

    code = "BRRR-CALL-09"


class ResultTimeoutError(NotFoundError, TimeoutError):
    """The call had no value within the timeout."""

    code = "BRRR-CALL-02"


class RecordMissingError(BrrrError):
    """The store has no record of the call of a message."""

    code = "BRRR-CALL-03"
    retry = False


class BuriedError(BrrrError):
    """The call was dead-lettered."""

    code = "BRRR-CALL-04"
    retry = False


class TerminalError(BrrrError):
    """A handler raises this error to fail its call for good, because a retry cannot help.

    The failure becomes the outcome of the call, and its callers get a `CallFailedError`. In a subclass, callers see the
    name of that class.

    Args:
        message: The reason, for callers and operators.
        details: A value for callers that the codec can encode; at most 16 KiB encoded.
    """

    code = "BRRR-CALL-05"
    retry = False

    def __init__(self, message: str = "", *, details: object = None) -> None:
        super().__init__(message)
        self.details = details
        self.encoded_details: bytes | None = None
        """Set by the worker."""

    def __str__(self) -> str:
        return self.what

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.what,), {"details": self.details})


class Cause(NamedTuple):
    """A failed call that made another call fail."""

    task_name: str
    call_hash: str
    error_type: str
    message: str


class CallFailedError(BrrrError):
    """A call that the handler or client waits for has failed for good. Handle it, or let it fail the calling handler.

    Attributes:
        task_name: The task of the failed call.
        call_hash: The failed call.
        error_type: The name of the class of the error that its handler raised.
        message: The message of that error, without secrets.
        details: The `details` of a `TerminalError`, decoded to builtin types; None without them.
        traceback: The traceback of that error as text, without secrets. Its middle may be left out.
        causes: If the handler failed because a call that it made failed: that call, its cause, and so on.
        exhausted: Whether the call failed because its attempts were used up. If so, a dead letter exists, too.
    """

    code = "BRRR-CALL-06"
    retry = False

    task_name: str = ""
    call_hash: str = ""
    error_type: str = ""
    message: str = ""
    details: object = None
    traceback: str = ""
    causes: tuple[Cause, ...] = ()
    exhausted: bool = False

    @property
    def cancelled(self) -> bool:
        """Whether the call failed because it was cancelled."""
        return self.error_type == "Cancelled"

    @property
    def reason(self) -> str:
        """The message of the call that failed first: the last of the causes, or this call."""
        return self.causes[-1].message if self.causes else self.message


class DeadlineExceededError(BrrrError):
    """A call or an event had no outcome before the deadline of the handler that waits for it.

    The call itself continues, for other callers. Every re-run of the handler gets this error again.

    Attributes:
        task_name: The task of the call; `brrr.event/NAME` for an event.
        call_hash: The call.
    """

    code = "BRRR-CALL-07"
    retry = False

    task_name: str = ""
    call_hash: str = ""


class ScheduleCancelledError(BrrrError):
    """The result of a call that belongs to a cancelled schedule."""

    code = "BRRR-CALL-08"
    retry = False


class SpawnLimitError(BrrrError):
    """One schedule caused more messages than the spawn limit allows."""

    code = "BRRR-ENGINE-01"
    retry = False


class CycleError(BrrrError):
    """A call waits for itself."""

    code = "BRRR-ENGINE-04"
    retry = False


class PolicyError(BrrrError):
    """A setting of a policy that is not valid."""

    code = "BRRR-ENGINE-03"


class NondeterminismError(BrrrError):
    """A re-run of a handler did not make the same calls as the run before."""

    code = "BRRR-ENGINE-02"
    retry = False


class VersionError(BrrrError):
    """An unfinished call began with a version of its handler that this worker's code cannot continue."""

    code = "BRRR-ENGINE-05"
    retry = False


class ContractError(BrrrError):
    """The contract kit cannot test its target, or was asked to skip a rule that applies to every backend."""

    code = "BRRR-CONTRACT-01"


class RuleBrokenError(BrrrError, AssertionError):
    """A backend or a codec breaks a rule of the contract kit."""

    code = "BRRR-CONTRACT-02"


class CommandError(BrrrError):
    """A command line that is not valid."""

    code = "BRRR-CLI-01"


class UnknownTopicError(BrrrError):
    """A topic is empty, and the queue has no topic of that name."""

    code = "BRRR-CLI-03"


class WorkersDiedError(BrrrError):
    """The processes of `brrr worker --processes` keep dying soon after their start."""

    code = "BRRR-CLI-02"
