"""Tokens of subjects: any text has one, and no two have the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brrr_core.errors import ArgumentError
from brrr_nats.tokens import MOST, token_of

TOKEN = re.compile(r"[A-Za-z0-9_=-]+")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=2 * MOST)
HOSTILE = ["", " ", ".", "..", "a.b", "a b", "*", ">", "a.>", "=", "==", "=2e", "=2E", "é", "e\u0301", "🦆", "\0", "\n"]


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * MOST])
def test_a_plain_text_stands_for_itself(text):
    assert token_of(text, "it") == text


@given(TEXTS)
def test_a_token_has_no_meaning_in_a_subject_and_is_short(text):
    token = token_of(text, "it")

    assert TOKEN.fullmatch(token)
    assert len(token) <= MOST


@given(TEXTS, TEXTS)
def test_two_texts_have_two_tokens(one, other):
    assert (token_of(one, "it") == token_of(other, "it")) == (one == other)


def test_texts_that_look_alike_have_tokens_of_their_own():
    texts = [*HOSTILE, *(token_of(text, "it") for text in HOSTILE), "x" * 5000, "x" * 4999 + "y"]

    assert len({token_of(text, "it") for text in texts}) == len(set(texts))


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(ArgumentError, match="the topic"):
        token_of("\ud83e", "the topic")
