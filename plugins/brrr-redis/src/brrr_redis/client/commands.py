"""Commands as they are sent: their words, where they belong, and whether they may be sent twice."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha1
from typing import TypeAlias

__all__ = ["Command", "Script", "Words", "command", "script_command"]

Word: TypeAlias = bytes | str | int | float
Words: TypeAlias = tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name by which servers know it once they have seen it."""

    source: str = field(repr=False)
    digest: str

    @classmethod
    def of(cls, source: str) -> "Script":
        """Return the script with its digest."""
        return cls(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        key: A key that it is about: it goes to the server that has it.
        words: The command and its arguments.
        retry_words: Words to send if the reply was lost and the command may have run; None if a repeat is not safe.
        script: The script that it calls, if any.
    """

    key: bytes
    words: Words
    retry_words: Words | None = None
    script: Script | None = None

    def for_retry(self) -> "Command | None":
        """The command to send once the answer to this one was lost."""
        return None if self.retry_words is None else replace(self, words=self.retry_words)

    def with_source(self) -> "Command":
        """The same command with the script's source, for a server that does not know the script yet."""
        if self.script is None:
            return self
        return replace(self, words=("EVAL", self.script.source, *self.words[2:]))


def command(key: bytes, *words: Word, repeat: bool) -> Command:
    """A command without a script; `repeat` says whether it may be sent again when its answer was lost."""
    return Command(key, words, words if repeat else None)


def script_command(
    script: Script, keys: Sequence[bytes], *arguments: Word, retry_arguments: Sequence[Word] | None = ()
) -> Command:
    """A call of a script.

    Args:
        script: The script.
        keys: Its keys, all in one slot.
        arguments: Its arguments.
        retry_arguments: Arguments to send if the reply was lost; empty for the same arguments, None if a
            repeat is not safe.
    """
    head: Words = ("EVALSHA", script.digest, len(keys), *keys)
    words: Words = (*head, *arguments)
    if retry_arguments is None:
        return Command(keys[0], words, None, script)
    return Command(keys[0], words, (*head, *retry_arguments) if retry_arguments else words, script)
