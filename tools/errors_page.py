"""Write docs/errors.md from the classes of brrr_core/errors.py: `make docs`."""

import inspect
from pathlib import Path
from typing import Final

from brrr_core import errors

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "errors.md"

HEAD: Final = """\
# Errors

Every error of brrr is a `brrr_core.errors.BrrrError`. It shows its code, what happened with the values, and what to do
about it. A code never changes its meaning; programs may match on the class or on `error.code`. The error of a client
library, where there was one, is its `__cause__`.

A message is _buried at once_, among the dead letters of its topic, when running its call again cannot help. After any
other error the call is run again, with a growing delay, until its attempts are used up.

This page is made from the code, by `make docs`.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE}")


def page() -> str:
    """The page's text: the classes in the order of their module, each with its code as its heading."""
    return "\n".join([HEAD, *(section(kind) for kind in classes())])


def classes() -> list[type[errors.BrrrError]]:
    """The error classes as they stand in their module. The common base is what they share, and has no section."""
    return [
        kind
        for _, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.BrrrError) and kind is not errors.BrrrError
    ]


def section(kind: type[errors.BrrrError]) -> str:
    """One class: code and name, what its docstring says, its bases, and what the engine does with a call after it."""
    bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
    after = "the call is run again" if kind.retry else "the message is buried at once"
    return f"## {kind.code} {kind.__name__}\n\n{inspect.getdoc(kind)}\n\nA kind of {bases}. In a worker: {after}.\n"


if __name__ == "__main__":
    main()
