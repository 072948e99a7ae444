"""Write docs/errors.md from the classes of brrr_core/errors.py: `make docs`."""

import inspect
from pathlib import Path
from typing import Final

from brrr_core import errors

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "errors.md"

HEAD: Final = """\
# Errors

Every error of brrr is a `brrr_core.errors.BrrrError`. Its message shows a code, what happened with the values, and a
remedy. A code never changes its meaning; programs may match on the class or on `error.code`. If a client library
raised an error, it is the `__cause__`.

If running a call again cannot help, the engine dead-letters its message at once. After any other error it runs the call
again, with a growing delay, until the attempts are used up.

`make docs` writes this page from the code.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE}")


def page() -> str:
    """Return the text of the page: the classes in the order of the module, each with its code as the heading."""
    return "\n".join([HEAD, *(section(kind) for kind in classes())])


def classes() -> list[type[errors.BrrrError]]:
    """Return the error classes in the order of the module, without the common base."""
    return [
        kind
        for _, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.BrrrError) and kind is not errors.BrrrError
    ]


def section(kind: type[errors.BrrrError]) -> str:
    """Return the section of a class: code, name, docstring, bases, and how a worker treats a call after the error."""
    bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
    after = "the call is run again" if kind.retry else "the message is dead-lettered at once"
    return f"## {kind.code} {kind.__name__}\n\n{inspect.getdoc(kind)}\n\nA kind of {bases}. In a worker: {after}.\n"


if __name__ == "__main__":
    main()
