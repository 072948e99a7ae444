"""Commands as they are sent: their words, where they belong, and whether they may be sent twice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from brrr_redis.scripts import Script

__all__ = ["Command", "Words", "call", "command"]

Word: TypeAlias = bytes | str | int | float
Words: TypeAlias = tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        key: A key that it is about: it goes to the server that has it.
        words: The command and its arguments.
        again: What is sent if the answer was lost, and nobody knows whether it was done; None where that is not safe.
        script: The script that it calls, if any.
    """

    key: bytes
    words: Words
    again: Words | None = None
    script: Script | None = None

    def repeated(self) -> "Command | None":
        """The command to send once the answer to this one was lost."""
        return None if self.again is None else replace(self, words=self.again)

    def spelled_out(self) -> "Command":
        """The same command with the script's source, for a server that does not know the script yet."""
        if self.script is None:
            return self
        return replace(self, words=("EVAL", self.script.source, *self.words[2:]))


def command(key: bytes, *words: Word, repeat: bool) -> Command:
    """A command without a script; `repeat` says whether it may be sent again when its answer was lost."""
    return Command(key, words, words if repeat else None)


def call(script: Script, keys: Sequence[bytes], *arguments: Word, again: Sequence[Word] | None = ()) -> Command:
    """A call of a script.

    Args:
        script: The script.
        keys: Its keys, all in one slot.
        arguments: Its arguments.
        again: What stands for the arguments if the answer was lost: the same unless given, None where it is not safe.
    """
    head: Words = ("EVALSHA", script.digest, len(keys), *keys)
    words: Words = (*head, *arguments)
    if again is None:
        return Command(keys[0], words, None, script)
    return Command(keys[0], words, (*head, *again) if again else words, script)
