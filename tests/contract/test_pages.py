"""docs/contract/ is what the rules and the mutants make it."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_pages_of_the_contract_are_what_the_code_makes_them() -> None:
    spec = importlib.util.spec_from_file_location("contract_pages", ROOT / "tools" / "contract_pages.py")
    assert spec is not None
    assert spec.loader is not None
    contract_pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(contract_pages)

    there = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "contract").glob("*.md")}

    assert there == contract_pages.pages(), "run `make docs`"
