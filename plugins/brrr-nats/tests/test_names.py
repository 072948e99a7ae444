"""Tokens of subjects: every text has one, and different texts have different ones."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brrr_core.errors import ArgumentError
from brrr_nats.names import MAX_TOKEN_BYTES, token_of

TOKEN = re.compile(r"[A-Za-z0-9_=-]+")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=2 * MAX_TOKEN_BYTES)
HOSTILE = ["", " ", ".", "..", "a.b", "a b", "*", ">", "a.>", "=", "==", "=2e", "=2E", "é", "e\u0301", "🦆", "\0", "\n"]


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * MAX_TOKEN_BYTES])
def test_plain_text_is_its_own_token(text: str) -> None:
    assert token_of(text, "it") == text


@settings(deadline=None)
@given(TEXTS)
def test_token_is_short_and_has_no_special_characters(text: str) -> None:
    token = token_of(text, "it")

    assert TOKEN.fullmatch(token)
    assert len(token) <= MAX_TOKEN_BYTES


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_different_texts_have_different_tokens(one: Any, other: Any) -> None:
    assert (token_of(one, "it") == token_of(other, "it")) == (one == other)


def test_similar_texts_have_different_tokens() -> None:
    texts = [*HOSTILE, *(token_of(text, "it") for text in HOSTILE), "x" * 5000, "x" * 4999 + "y"]

    assert len({token_of(text, "it") for text in texts}) == len(set(texts))


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ArgumentError, match="the topic"):
        token_of("\ud83e", "the topic")
