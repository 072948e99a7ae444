"""Run atheris on one target: `python -m tests.fuzz.coverage_guided TARGET -runs=1000 FOLDER`.

The environment does not have atheris: `.venv/bin/uv pip install atheris` adds it.
"""

import inspect
import sys

import atheris  # type: ignore[import-not-found] # only those who fuzz by coverage install it

from tests.fuzz.targets import TARGETS

INSTRUMENTED = ("brrr_core", "brrr_cli", "brrr_cron", "examples")

# Its import hook does not see packages that are installed as editable. So functions are instrumented after the import.
for name, module in list(sys.modules.items()):
    if name.startswith(INSTRUMENTED):
        owners = [module, *(kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == name)]
        for owner in owners:
            for function in list(vars(owner).values()):
                if inspect.isfunction(function) and function.__module__ == name:
                    atheris.instrument_func(function)

target = sys.argv.pop(1)
atheris.Setup(sys.argv, TARGETS[target].run)
atheris.Fuzz()
