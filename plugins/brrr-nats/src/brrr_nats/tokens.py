"""Any text as one token of a subject, which is the name of a consumer or a stream as well.

Subjects have tokens between full stops; `*`, `>` and white space mean something in them, and names of consumers become
names of files. ASCII letters, digits, `_` and `-` stand for themselves; any other byte of the text's UTF-8 is `=` and
two hexadecimal digits; the empty text is `=` alone. Beyond a bound the token is `==` and the text's SHA-256, since
subjects have to fit into the servers' control lines (4 KiB) and names into 255 bytes. No two texts have one token.
"""

import re
from hashlib import sha256
from typing import Final

from brrr_core.errors import ArgumentError

__all__ = ["MOST", "token_of"]

MOST: Final = 120
"""The longest token that is not a digest, in bytes."""

PLAIN: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MOST}}}")
OTHER: Final = re.compile(rb"[^A-Za-z0-9_-]")


def token_of(text: str, what: str) -> str:
    """The token of a text. `what` names it in errors, as in `the topic`.

    Raises:
        ArgumentError: The text has no UTF-8 form.
    """
    if PLAIN.fullmatch(text):
        return text
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"{what} {text!r} holds half a surrogate pair", remedy="Give it as text that UTF-8 can carry."
        ) from error
    if len(encoded) <= MOST:
        token = OTHER.sub(lambda found: b"=%02x" % found[0][0], encoded).decode() or "="
        if len(token) <= MOST:
            return token
    return f"=={sha256(encoded).hexdigest()}"
