"""Register the mutants that are opened by URL. Other processes import this before they open one."""

from brrr_core import register
from mutants import files
from mutants.liars import MANIFESTS

_ = files  # its import fills MANIFESTS

for manifest in MANIFESTS:
    register(manifest)
