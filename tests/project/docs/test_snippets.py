"""Every Python snippet of the documentation runs, and prints the output on its page."""

import ast
import asyncio
import contextlib
import inspect
import io
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .pages import PAGES, blocks, name_of

LIMIT = 30.0
"""Seconds for one snippet."""

WITH_CODE = [page for page in PAGES if any(block.language == "python" for block in blocks(page.read_text()))]


def run_page(text: str, name: str, namespace: dict[str, Any]) -> None:
    """Run a page's snippets in order, in one namespace. A snippet may await, as in `python -m asyncio`."""
    printed = None
    with asyncio.Runner() as runner:
        for block in blocks(text):
            if block.language == "text" and printed is not None:
                assert printed == block.text, f"{name}:{block.line}: the output of the snippet above differs"
            printed = None
            if block.language == "python":
                source = "\n" * block.line + block.text
                code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                with contextlib.redirect_stdout(io.StringIO()) as output:
                    result = eval(code, namespace)
                    if code.co_flags & inspect.CO_COROUTINE:
                        runner.run(within_limit(result))
                printed = output.getvalue()


async def within_limit(snippet: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(LIMIT):
        await snippet


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # for the lookup of annotated names
    monkeypatch.chdir(tmp_path)
    for variable in ("BRRR_QUEUE", "BRRR_STORE", "BRRR_CACHE", "BRRR_CODEC"):
        monkeypatch.delenv(variable, raising=False)

    run_page(page.read_text(), name_of(page), vars(module))


PAGE = """\
```python
import asyncio
x = 1
print("a")
```

```text
a
```

<!-- python
await asyncio.sleep(0)
y = x + 1
-->
"""


def test_snippets_share_namespace_and_hidden_ones_run() -> None:
    namespace: dict[str, Any] = {}

    run_page(PAGE, "page", namespace)

    assert namespace["y"] == 2


def test_different_output_is_found() -> None:
    with pytest.raises(AssertionError, match="page:7: the output of the snippet above differs"):
        run_page(PAGE.replace("\na\n", "\nb\n"), "page", {})


def test_failing_snippet_is_found_at_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        run_page(PAGE.replace("x = 1", "x = 1 / 0"), "page", {})

    assert failure.traceback[-1].lineno == 2  # counted from 0
