"""The committed pages of docs/contract/ are up to date."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_contract_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("contract_pages", ROOT / "tools" / "contract_pages.py")
    assert spec is not None
    assert spec.loader is not None
    contract_pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(contract_pages)

    there = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "contract").glob("*.md")}

    assert there == contract_pages.pages(), "run `make docs`"
