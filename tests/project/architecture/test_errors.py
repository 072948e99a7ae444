"""Every error has a code of its own, and its section in docs/errors.md."""

import ast
import importlib.util
import inspect
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from brrr_core import errors

ROOT = Path(__file__).resolve().parents[3]
CODE = re.compile(r"BRRR-[A-Z]+-\d\d")
KINDS: list[type[errors.BrrrError]] = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, errors.BrrrError) and kind is not errors.BrrrError  # is never raised
]


def test_every_code_has_the_form_that_is_promised() -> None:
    assert {kind.__name__: kind.code for kind in KINDS if not CODE.fullmatch(kind.code)} == {}


def test_no_two_errors_share_a_code() -> None:
    # A class that names no code of its own would silently have its base's.
    count = Counter([errors.BrrrError.code, *(kind.code for kind in KINDS)])

    assert [code for code, uses in count.items() if uses > 1] == []


def test_every_error_is_public_and_says_what_it_means() -> None:
    assert {kind.__name__ for kind in KINDS} | {"BrrrError", "Cause"} == set(errors.__all__)
    assert [kind.__name__ for kind in KINDS if not vars(kind).get("__doc__")] == []


def test_page_of_errors_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("errors_page", ROOT / "tools" / "errors_page.py")
    assert spec is not None
    assert spec.loader is not None
    errors_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(errors_page)

    page = errors_page.page()

    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == page, "run `make docs`"
    assert [kind.__name__ for kind in KINDS if f"## {kind.code} {kind.__name__}\n" not in page] == []


@cache
def _raised() -> list[tuple[str, ast.Call]]:
    """Return each error that the code creates, with its place."""
    names = {kind.__name__ for kind in KINDS}
    return [
        (f"{file.relative_to(ROOT)}:{node.lineno} {node.func.id}", node)
        for file in sorted([*ROOT.glob("brrr_core/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")])
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]


def test_every_error_comes_with_a_remedy() -> None:
    bare = [place for place, node in _raised() if not any(each.arg in {"remedy", None} for each in node.keywords)]

    assert bare == []


def _literals(node: ast.expr) -> list[str]:
    """Return the ends of the texts that an expression may give, if the code contains them."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=[*_, ast.Constant(value=str(text))]):
            return [text]
        case ast.IfExp(body=one, orelse=other):
            return [*_literals(one), *_literals(other)]
        case _:
            return []


def test_no_error_is_written_with_two_full_stops_or_none() -> None:
    wrong = [
        f"{place}: {text!r}"
        for place, node in _raised()
        for texts, pattern in [
            (node.args[:1], r".*[^.!?\s]"),  # what happened: the full stop is added
            ([each.value for each in node.keywords if each.arg == "remedy"], r"(.*[^.\s])?[.?]"),
        ]
        for expression in texts
        for text in _literals(expression)
        if text and not re.fullmatch(pattern, text, re.DOTALL)
    ]

    assert wrong == []


@pytest.mark.parametrize("end", ["", ".", "!", "?", "…", "..."])
def test_error_text_that_ends_a_sentence_gets_no_second_full_stop(end: str) -> None:
    error = errors.BuriedError(f"it was given up: no{end}", remedy="Fix the cause.")

    assert str(error) == f"[BRRR-CALL-04] it was given up: no{end or '.'} Fix the cause."
