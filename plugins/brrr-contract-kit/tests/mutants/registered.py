"""Register the mutants that are opened by URL. Other processes import this before they open one."""

from brrr_core import register
from mutants import doomed, files, liars

_ = files  # its import fills MANIFESTS of liars

for manifest in (*liars.MANIFESTS, *doomed.MANIFESTS):
    register(manifest)
