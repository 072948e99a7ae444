"""Texts of foreign objects: they never raise, they are bounded, and UTF-8 can carry them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from brrr_core.codec.json import JsonCodec
from brrr_core.errors import DecodeError
from brrr_core.plugins.masking import masking
from brrr_core.safe_text import MARGIN, TEXT_LIMIT, describe, format_error, format_traceback, safe_repr, safe_str


class MuteError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class Sly(str):
    """A text that does not let itself be cut or encoded."""

    __slots__ = ()

    def __getitem__(self, key: object) -> str:
        raise RuntimeError

    def encode(self, *arguments: object, **named: object) -> bytes:
        raise RuntimeError


class SlyError(Exception):
    def __str__(self) -> str:
        return Sly("sly")


def test_text_that_cannot_be_made_names_the_class() -> None:
    assert safe_str(MuteError()) == safe_repr(MuteError()) == "<a MuteError that cannot be shown>"
    assert describe(MuteError()) == "MuteError: <a MuteError that cannot be shown>"


def test_interrupt_while_a_text_is_made_passes() -> None:
    class Interrupted:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        safe_str(Interrupted())


def test_text_of_a_subclass_becomes_plain_text() -> None:
    assert type(safe_str(SlyError())) is str
    assert safe_str(SlyError()) == "sly"


@pytest.mark.parametrize("make", [safe_str, safe_repr, describe, format_error, format_traceback])
def test_every_text_is_bounded_and_encodable(make: Callable[[BaseException], str]) -> None:
    text = make(ValueError("\ud800" + "x" * 100_000))
    assert len(text) <= TEXT_LIMIT + len("ValueError: …")
    assert "\\ud800" in text.encode().decode()


def test_text_of_syntax_error_begins_with_its_class() -> None:
    error = SyntaxError("invalid syntax", ("tasks.py", 3, 5, "x = = 1"))
    assert format_error(error).startswith('SyntaxError: invalid syntax (tasks.py, line 3)\n  File "tasks.py", line 3\n')


def test_long_traceback_keeps_its_beginning_and_its_end() -> None:
    text = format_traceback(ValueError("x" * 100_000 + "last"))
    assert text.startswith("ValueError: x")
    assert text.endswith("last\n")


@pytest.mark.parametrize("make", [safe_str, describe, format_error, format_traceback])
@pytest.mark.parametrize("around", [0, 50_000, 200_000])
def test_secret_at_a_cut_leaves_no_part(make: Callable[..., str], around: int) -> None:
    """The cut may be before any of its characters, in a text of any length."""
    secret = "open-sesame"
    mask = masking([secret])
    whole = len(f"ValueError: {secret}")
    for limit in (TEXT_LIMIT, (TEXT_LIMIT - 3) // 2, TEXT_LIMIT + MARGIN, (TEXT_LIMIT - 3) // 2 + MARGIN):
        for shift in range(-2, whole, 3):
            before, after = limit - shift, around + limit - shift
            text = make(ValueError(f"{'x' * before}{secret}{'x' * after}{secret}{'x' * before}"), mask=mask)
            assert not any(part in text for part in ("op", "pe", "en", "n-", "-s", "es", "sa", "am")), text[-100:]
            assert len(text) <= TEXT_LIMIT + len("ValueError: …")


@dataclass
class Refusing:
    def __post_init__(self) -> None:
        raise MuteError


def test_value_that_a_class_refuses_with_any_error_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="MuteError"):
        JsonCodec().decode_return("task", b"{}", returns=Refusing)
