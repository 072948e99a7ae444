"""Commands and scripts: the words to send, the key that selects the server, and whether a repeat is safe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import NamedTuple, TypeAlias

__all__ = ["Command", "Script", "Word", "Words", "command", "script_command"]

Word: TypeAlias = bytes | str | int | float
Words: TypeAlias = tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """A script with its SHA-1 digest. A server that has seen the script runs it by the digest."""

    source: str = field(repr=False)
    digest: str

    @classmethod
    def of(cls, source: str) -> "Script":
        """Return the script with its digest."""
        return cls(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


class Command(NamedTuple):
    """One command for one server.

    Attributes:
        key: One of its keys. The command goes to the server that has this key.
        words: The command and its arguments.
        retry_words: Words to send if the reply was lost and the command may have run; None if a repeat is not safe.
        script: The script that it runs, if any.
    """

    key: bytes
    words: Words
    retry_words: Words | None = None
    script: Script | None = None

    def for_retry(self) -> "Command | None":
        """Return the command to send if the reply to this one was lost, or None if a repeat is not safe."""
        return None if self.retry_words is None else self._replace(words=self.retry_words)

    def with_source(self) -> "Command":
        """Return the command with the source of its script, for a server that has not seen the script."""
        if self.script is None:
            return self
        return self._replace(words=("EVAL", self.script.source, *self.words[2:]))


def command(key: bytes, *words: Word, repeat: bool) -> Command:
    """Return a command without a script. `repeat`: whether to send it again if the reply was lost."""
    return Command(key, words, words if repeat else None)


def script_command(
    script: Script, keys: Sequence[bytes], *arguments: Word, retry_arguments: Sequence[Word] | None = ()
) -> Command:
    """Return a command that runs a script.

    Args:
        script: The script.
        keys: The keys of the script, all in one slot; none if the script of one server needs none.
        arguments: The arguments of the script.
        retry_arguments: Arguments to send if the reply was lost; empty for the same arguments, None if a
            repeat is not safe.
    """
    key = keys[0] if keys else b""
    head: Words = ("EVALSHA", script.digest, len(keys), *keys)
    words: Words = (*head, *arguments)
    if retry_arguments is None:
        return Command(key, words, None, script)
    return Command(key, words, (*head, *retry_arguments) if retry_arguments else words, script)
