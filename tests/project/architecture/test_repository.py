"""The address of the repository is one value, and the links of each README on the package index begin with it."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tools import repository
from tools.distributions import CORE, Distribution, read_distributions

ROOT = Path(__file__).resolve().parents[3]
EVERY = read_distributions()
BASE = EVERY[CORE].repository

each = pytest.mark.parametrize("distribution", EVERY.values(), ids=EVERY)


def settings(distribution: Distribution) -> dict[str, Any]:
    return tomllib.loads((distribution.folder / "pyproject.toml").read_text(encoding="utf-8"))


@each
def test_urls_begin_with_the_address(distribution: Distribution) -> None:
    place = "" if distribution.name == CORE else f"plugins/{distribution.name}/"

    assert settings(distribution)["project"]["urls"] == {
        "Repository": BASE,
        "Documentation": f"{BASE}/blob/main/docs/index.md",
        "Changelog": f"{BASE}/blob/main/{place}CHANGELOG.md",
        "Issues": f"{BASE}/issues",
    }


@each
def test_build_makes_the_links_of_the_readme_absolute(distribution: Distribution) -> None:
    hook = settings(distribution)["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join((distribution.folder / part["path"]).read_text(encoding="utf-8") for part in hook["fragments"])
    for each in hook["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)

    assert text.replace("$HFPR_VERSION", str(distribution.version)) == distribution.index_readme()


@each
def test_links_on_the_index_lead_to_files_of_the_tag(distribution: Distribution) -> None:
    readme = distribution.index_readme()
    inside = re.findall(rf"\]\({re.escape(BASE)}/blob/([^/]+)/([^)#]+)", readme)

    assert re.findall(r"\]\((?!https?:|#)[^)]*", readme) == []
    assert {tag for tag, _ in inside} <= {distribution.tag}
    assert [path for _, path in inside if not (ROOT / path).exists()] == []


def test_address_is_changed_everywhere(tmp_path: Path) -> None:
    files = [distribution.folder / "pyproject.toml" for distribution in EVERY.values()]
    copies = [tmp_path / f"{number}.toml" for number in range(len(files))]
    for file, copy in zip(files, copies, strict=True):
        shutil.copy(file, copy)

    assert repository.change(copies, BASE, "https://git.example/me/tasks") == copies

    texts = [copy.read_text() for copy in copies]
    assert [text for text in texts if BASE in text] == []
    assert {tomllib.loads(text)["project"]["urls"]["Repository"] for text in texts} == {"https://git.example/me/tasks"}


def test_longer_address_is_another_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BASE} {BASE}/issues {BASE}-site")

    repository.change([page], BASE, "https://x.example/a")

    assert page.read_text() == f"https://x.example/a https://x.example/a/issues {BASE}-site"


@pytest.mark.parametrize(
    "given", [[], ["brrr"], ["https://x.example"], ["https://x.example/a/"], ["https://x.example/a b"]]
)
def test_wrong_address_is_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert repository.main(given) == 2
    assert "make repository URL=" in capsys.readouterr().out
