"""Distributions that exist for one test only: real modules with real metadata on `sys.path`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from brrr_core.plugins import rescan

__all__ = ["Site", "site", "sites"]

MANIFEST: Final = """
from dataclasses import replace

from brrr_core.backend import BackendManifest, CacheCapabilities, QueueCapabilities, StoreCapabilities

def manifest(*schemes, contract=1, backend="{module}_backend:FakeBackend", roles="qsc", **more):
    return BackendManifest(
        contract=contract, schemes=schemes, summary="a fake", example="fake:", backend=backend,
        queue=QueueCapabilities(durable=True, shared=True, delay=True, max_body=1) if "q" in roles else None,
        store=StoreCapabilities(durable=True, shared=True, max_value=1) if "s" in roles else None,
        cache=CacheCapabilities(durable=True, shared=True) if "c" in roles else None,
        **more,
    )
"""

BACKEND: Final = """
from brrr_core.backend import Backend, Roles

class FakeBackend(Backend):
    def __init__(self, url, options):
        self.url, self.options = url, options

    async def start(self):
        return Roles()

    async def stop(self):
        pass
"""


class Site:
    """A folder like `site-packages`, at the front of `sys.path`.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def module(self, name: str, source: str) -> None:
        """Write a module."""
        (self.root / f"{name}.py").write_text(source)

    def metadata(self, distribution: str, entry_points: str, version: str = "1.0", summary: str = "") -> None:
        """Write the dist-info of a distribution. `entry_points` is the text of its `entry_points.txt`."""
        folder = self.root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nSummary: {summary}\n"
        )
        (folder / "entry_points.txt").write_text(entry_points)
        rescan()

    def backend(self, distribution: str, *schemes: str, manifest: str | None = None, version: str = "1.0") -> None:
        """Write a complete backend plugin. `manifest` is a Python expression for its manifest."""
        module = distribution.replace("-", "_")
        expression = manifest or f"manifest({', '.join(map(repr, schemes))})"
        self.module(module, f"{MANIFEST.format(module=module)}\nMANIFEST = {expression}\n")
        self.module(f"{module}_backend", BACKEND)
        entries = "\n".join(f"{scheme} = {module}:MANIFEST" for scheme in schemes)
        self.metadata(distribution, f"[brrr.backends]\n{entries}\n", version)


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    """Return a function that makes sites by name. Their modules and metadata are removed after the test."""
    before = set(sys.modules)

    def make(name: str = "site") -> Site:
        site = Site(tmp_path / name)
        if str(site.root) not in sys.path:
            monkeypatch.setattr(sys, "path", [str(site.root), *sys.path])
        rescan()
        return site

    yield make
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    monkeypatch.undo()
    rescan()


@pytest.fixture
def site(sites: Callable[..., Site]) -> Site:
    """Return a site."""
    return sites()
