"""`NameEscape` makes a name of any text, and `encode_text` its UTF-8 form."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_core.backend import NameEscape, encode_text
from brrr_core.errors import ArgumentError

LONGEST = 60
ESCAPES = {
    "equals": NameEscape("=", cut="=="),
    "underscores": NameEscape("_x", cut="__", unsafe="_(?![A-Za-wyz0-9-])|[^A-Za-z0-9_-]"),
}
TEXTS = st.one_of(st.text(), st.text("ab_x-=0 5f", max_size=80), st.text(st.characters(), max_size=20))


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
@settings(deadline=None)
@given(text=TEXTS)
def test_name_is_plain_and_short_and_can_be_read_back(escape: NameEscape, text: str) -> None:
    name = escape.name(text, longest=LONGEST)

    assert re.fullmatch("[A-Za-z0-9_=-]*", name)
    assert len(name) <= LONGEST
    assert escape.unescape(name) in {text, None}
    assert (escape.unescape(name) is None) == (len(escape.escape(text)) > LONGEST)


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
@settings(deadline=None)
@given(texts=st.lists(TEXTS, unique=True, min_size=2))
def test_different_texts_have_different_names(escape: NameEscape, texts: list[str]) -> None:
    names = {escape.name(text, longest=LONGEST) for text in texts}
    again = {escape.name(name, longest=LONGEST) for name in names}

    assert len(names) == len(again) == len(texts)


def test_plain_text_stays() -> None:
    assert ESCAPES["underscores"].name("mail_out-2", longest=LONGEST) == "mail_out-2"
    assert ESCAPES["equals"].name("a/ü", longest=LONGEST) == "a=2f=c3=bc"


def test_long_text_keeps_its_beginning() -> None:
    one, other = (ESCAPES["equals"].name("x" * 99 + end, longest=LONGEST) for end in "ab")

    assert re.fullmatch("x{32}==[a-z2-7]{26}", one)
    assert one != other


def test_half_a_surrogate_pair_has_no_utf8() -> None:
    assert encode_text("ü", "the topic") == b"\xc3\xbc"
    with pytest.raises(ArgumentError, match=r"the topic .* surrogate"):
        encode_text("\ud83e", "the topic")
