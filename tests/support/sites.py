"""Distributions that are installed for one test: real modules and real metadata on `sys.path`."""

import sys
from pathlib import Path

import pytest

from brrr_core.plugins import REGISTRY

MANIFEST = """
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

BACKEND = """
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
    """A folder like `site-packages`, at the front of `sys.path`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def module(self, name, source):
        (self.root / f"{name}.py").write_text(source)

    def metadata(self, distribution, entry_points, version="1.0", summary=""):
        """Write the dist-info of a distribution. `entry_points` is the text of its `entry_points.txt`."""
        folder = self.root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nSummary: {summary}\n"
        )
        (folder / "entry_points.txt").write_text(entry_points)
        REGISTRY.rescan()

    def backend(self, distribution, *schemes, manifest=None, version="1.0"):
        """Write a complete backend plugin. `manifest` is a Python expression for its manifest."""
        module = distribution.replace("-", "_")
        expression = manifest or f"manifest({', '.join(map(repr, schemes))})"
        self.module(module, f"{MANIFEST.format(module=module)}\nMANIFEST = {expression}\n")
        self.module(f"{module}_backend", BACKEND)
        entries = "\n".join(f"{scheme} = {module}:MANIFEST" for scheme in schemes)
        self.metadata(distribution, f"[brrr.backends]\n{entries}\n", version)


@pytest.fixture
def sites(tmp_path, monkeypatch):
    """Return a function that makes sites by name. Their modules and metadata are removed after the test."""
    before = set(sys.modules)

    def make(name="site"):
        site = Site(tmp_path / name)
        if str(site.root) not in sys.path:
            monkeypatch.setattr(sys, "path", [str(site.root), *sys.path])
        REGISTRY.rescan()
        return site

    yield make
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    monkeypatch.undo()
    REGISTRY.rescan()


@pytest.fixture
def site(sites):
    return sites()
