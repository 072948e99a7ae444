"""Register the mutants that are opened by URL. Other processes import this before they open one."""

from brrr_core import register
from mutants.liars import MANIFESTS

for manifest in MANIFESTS:
    register(manifest)
