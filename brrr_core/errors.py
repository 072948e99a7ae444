"""Every error of brrr: one base, a stable code, what happened, what to do.

The codes are part of the public interface: a code never changes its meaning. The message of an error never holds a
secret; the error of a client library is chained as its cause.
"""

from typing import ClassVar

__all__ = [
    "AlreadyRegisteredError",
    "ArgumentError",
    "AwaitError",
    "BackendClosedError",
    "BackendError",
    "BackendRefusedError",
    "BackendUnavailableError",
    "BodyTooLargeError",
    "BrokenPluginError",
    "BrrrError",
    "BuriedError",
    "CapabilityError",
    "ClashError",
    "CodecError",
    "CommandError",
    "ContractError",
    "ContractVersionError",
    "CorruptBackendError",
    "CycleError",
    "DecodeError",
    "EncodeError",
    "ForkedError",
    "HandlerError",
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
    "SignatureError",
    "SpawnLimitError",
    "UnknownSchemeError",
    "UnknownTaskError",
    "UrlError",
    "ValueTooLargeError",
    "WorkersDiedError",
]


class BrrrError(Exception):
    """The base of every error that brrr raises.

    Args:
        what: What happened, with the values, in one sentence without its full stop.
        remedy: What the reader can do about it, as one sentence.
    """

    code: ClassVar[str] = "BRRR-00"
    retry: ClassVar[bool] = True
    """Whether running the call again can help; where it cannot, the engine buries its message at once."""

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"[{self.code}] {sentence(self.what)} {self.remedy}".rstrip()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.remedy))


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends with one already: `what` often ends with another error's text."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _rebuild(kind: type[BrrrError], what: str, remedy: str) -> BrrrError:
    return kind(what, remedy=remedy)


class MalformedRecordError(BrrrError):
    """Bytes from a queue or a store that are not the record of PROTOCOL.md that they should be."""

    code = "BRRR-WIRE-01"
    retry = False


class UrlError(BrrrError):
    """A backend URL that cannot be read."""

    code = "BRRR-URL-01"


class OptionError(BrrrError):
    """An option of a URL that is unknown, repeated, missing or of the wrong type."""

    code = "BRRR-URL-02"


class PluginError(BrrrError):
    """The base of what can be wrong with finding a plugin."""

    code = "BRRR-PLUGIN-00"


class UnknownSchemeError(PluginError):
    """No plugin, installed or known, claims this scheme or codec name."""

    code = "BRRR-PLUGIN-01"


class NotInstalledError(PluginError):
    """A known plugin claims this scheme, and it is not installed."""

    code = "BRRR-PLUGIN-02"


class BrokenPluginError(PluginError):
    """An installed plugin cannot be loaded, or what it ships is not a manifest."""

    code = "BRRR-PLUGIN-03"


class RoleError(PluginError):
    """The backend does not offer the role that it was named for."""

    code = "BRRR-PLUGIN-04"


class ClashError(PluginError):
    """Two distributions claim one scheme or codec name."""

    code = "BRRR-PLUGIN-05"


class ContractVersionError(PluginError):
    """The plugin was written for another version of the contracts."""

    code = "BRRR-PLUGIN-06"


class AlreadyRegisteredError(PluginError):
    """`register` was called with a scheme or name that is taken."""

    code = "BRRR-PLUGIN-07"


class BackendError(BrrrError):
    """The base of what a backend can raise."""

    code = "BRRR-BACKEND-00"


class BackendUnavailableError(BackendError):
    """The server, file or network behind a backend does not answer: trying again later can help."""

    code = "BRRR-BACKEND-01"


class BackendRefusedError(BackendUnavailableError):
    """The server answers, and does not let this client in: a login, a certificate or an account has to be mended."""

    code = "BRRR-BACKEND-09"


class BackendClosedError(BackendError):
    """The backend is not open (any more)."""

    code = "BRRR-BACKEND-02"


class CapabilityError(BackendError):
    """The operation needs a capability that the backend's manifest does not declare."""

    code = "BRRR-BACKEND-03"
    retry = False


class BodyTooLargeError(BackendError):
    """A message body is larger than the queue declares that it can carry."""

    code = "BRRR-BACKEND-04"
    retry = False


class ValueTooLargeError(BackendError):
    """A record is larger than the store declares that it can hold."""

    code = "BRRR-BACKEND-05"
    retry = False


class CorruptBackendError(BackendError):
    """What is stored is damaged, or was written by a newer version of the backend."""

    code = "BRRR-BACKEND-06"


class ForkedError(BackendError):
    """An open backend was carried into another process, by forking or by pickling."""

    code = "BRRR-BACKEND-07"


class ArgumentError(BackendError, ValueError):
    """An argument that the contract does not allow: a limit under 1, a negative wait or delay, an empty topic."""

    code = "BRRR-BACKEND-08"
    retry = False


class CodecError(BrrrError):
    """The base of what can go wrong between Python values and bytes."""

    code = "BRRR-CODEC-00"


class EncodeError(CodecError):
    """An argument or a result that the codec cannot turn into bytes."""

    code = "BRRR-CODEC-01"
    retry = False


class DecodeError(CodecError):
    """Bytes that the codec cannot turn into what the handler or the caller asks for."""

    code = "BRRR-CODEC-02"


class ResultDecodeError(DecodeError):
    """A stored result that is not of the type that its reader asks for; a stored result never changes."""

    code = "BRRR-CODEC-03"
    retry = False


class HandlerError(BrrrError):
    """A function that cannot be a handler, or handlers that cannot be registered together."""

    code = "BRRR-APP-01"


class UnknownTaskError(BrrrError):
    """A call of a task that this application has no handler for."""

    code = "BRRR-APP-02"


class NotInTaskError(BrrrError):
    """Something that works only inside a running task was called outside of one."""

    code = "BRRR-APP-03"


class SignatureError(BrrrError):
    """Arguments that do not fit the handler that they are for."""

    code = "BRRR-APP-04"
    retry = False


class AwaitError(BrrrError, TypeError):
    """A handler returned a call that it did not await, lost one, or gave `gather` or `wait` what cannot be awaited."""

    code = "BRRR-APP-05"
    retry = False


class NotFoundError(BrrrError):
    """There is no value for this call (yet)."""

    code = "BRRR-CALL-01"


class ResultTimeoutError(NotFoundError, TimeoutError):
    """The call had no value within the time that was given."""

    code = "BRRR-CALL-02"


class RecordMissingError(BrrrError):
    """A message names a call whose record is not in the store."""

    code = "BRRR-CALL-03"
    retry = False


class BuriedError(BrrrError):
    """The call was given up: its message is among the dead letters."""

    code = "BRRR-CALL-04"
    retry = False


class SpawnLimitError(BrrrError):
    """One schedule caused more messages than the spawn limit allows."""

    code = "BRRR-ENGINE-01"
    retry = False


class CycleError(BrrrError):
    """A call that waits for itself."""

    code = "BRRR-ENGINE-04"
    retry = False


class PolicyError(BrrrError):
    """A setting of a policy that no worker could work by."""

    code = "BRRR-ENGINE-03"


class NondeterminismError(BrrrError):
    """A handler that was run again did not make the calls that it made before."""

    code = "BRRR-ENGINE-02"
    retry = False


class ContractError(BrrrError):
    """The contract kit is given something that it cannot test, or is told to leave out what it must test."""

    code = "BRRR-CONTRACT-01"


class RuleBrokenError(BrrrError, AssertionError):
    """A backend or a codec breaks a rule of the contract kit."""

    code = "BRRR-CONTRACT-02"


class CommandError(BrrrError):
    """A command line that cannot be run as it is written."""

    code = "BRRR-CLI-01"


class WorkersDiedError(BrrrError):
    """The processes of `brrr worker --processes` die again and again, as soon as they are started."""

    code = "BRRR-CLI-02"
