"""The backends that each workflow runs on."""

from tests.support.backends import memory, url

__all__ = ["memory", "url"]
