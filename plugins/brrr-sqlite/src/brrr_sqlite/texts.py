"""What text SQLite can keep: all that has a UTF-8 form, which lone surrogates have not."""

from brrr_core.errors import ArgumentError

__all__ = ["check_text", "storable"]


def check_text(text: str, what: str) -> None:
    """See that the text can be kept as it is. Raises `ArgumentError`."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"{what} {text!r} holds half a surrogate pair", remedy="Give it as text that UTF-8 can carry."
        ) from error


def storable(text: str) -> str:
    """The text, what cannot be kept written as an escape: for texts that only people read."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
