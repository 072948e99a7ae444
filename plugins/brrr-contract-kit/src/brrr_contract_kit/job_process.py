"""The program of the processes that run rules: `brrr_contract_kit.jobs` starts it.

It reads the target as a line of JSON, then the id of a rule in each line, and answers each with a line of JSON.
"""

import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from traceback import format_exception

from brrr_contract_kit.execution import run_rule
from brrr_contract_kit.report import Outcome
from brrr_contract_kit.rules import find
from brrr_contract_kit.target import Target

__all__ = ["main"]


def main() -> None:
    """Run the rules whose ids are read, on the target of the first line, until the input ends."""
    opening = json.loads(sys.stdin.readline())
    # What the backend prints goes to the standard error, and the answers to the pipe.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for module in opening["target"]["preload"]:
        import_module(module)
    target = Target.at(**opening["target"])
    with suppress(KeyboardInterrupt):
        for line in sys.stdin:
            outcome = run_rule(find(line.strip()), target, opening["seed"])
            answers.write(f"{json.dumps(_answer(outcome, target))}\n")


def _answer(outcome: Outcome, target: Target) -> dict[str, object]:
    """Return an outcome without its rule, as `brrr_contract_kit.jobs` reads it."""
    error = outcome.error
    return {
        "status": outcome.status.value,
        "reason": outcome.reason,
        "seconds": outcome.seconds,
        "error": None
        if error is None
        else {
            "what": target.mask(getattr(error, "what", "") or f"{type(error).__name__}: {error}"),
            "remedy": outcome.remedy,
            "traceback": target.mask("".join(format_exception(error))),
        },
        "forbidden_by": None if outcome.forbidden_by is None else outcome.forbidden_by.id,
    }


if __name__ == "__main__":
    main()
