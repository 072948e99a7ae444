"""Distributions that are installed, and manifests that are registered, for one test."""

import pytest

from brrr_core.plugins import REGISTRY
from brrr_testkit.sites import site, sites

__all__ = ["registered", "site", "sites"]


@pytest.fixture
def registered():
    """Return a function that registers a manifest for one test."""
    manifests = []

    def register(manifest):
        REGISTRY.register(manifest)
        manifests.append(manifest)

    yield register
    for manifest in manifests:
        REGISTRY.unregister(manifest)
