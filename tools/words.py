"""Check that phrases which make a reader stop do not return. docs/reference/glossary.md has the words to use."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
READ: Final = ("*.py", "*.md", "*.lua", "*.js", "*.toml", "*.yml", "*.jinja", "Makefile")

INSTEAD: Final = {
    r"\bwhoever\b": "name the role: the worker, the caller, a plugin author",
    r"\bnobody\b": "name what is missing: no worker, no caller",
    r"(?<!there )\b(?:is|are) no (?!longer\b)": "is not a …, has no …, or lacks …",
    r"\bfor ever\b": "forever, or without a limit",
    r"\bprogrammes?\b": "program",
    r"\btold of\b": "informs, reports, or notifies",
    r"\bas it comes\b": "by default",
    r"\banew\b": "again, or restart …",
    r"\bany more\b": "no longer",
    r"\bnow and then\b": "regularly, or sometimes",
    r"\bin the place of\b": "instead of",
    r"\bgo(?:es)? on\b": "continue",
    r"\bside by side\b": "concurrently, in parallel, or together",
    r"\bone after the other\b": "one after another",
    r"\bhowever (?:far|large|late|long|many|often)\b": "no matter how …, or even if …",
    r"\bso many (?:seconds|times|effects|messages)\b": "this number of …",
    r"\bhalf-way\b": "halfway",
    r"_(?:told|anew|somebody|nobody)(?:_|\b)": "a name with reported, again, or the role",
    r"\bsomebody\b": "name the role: the worker, the caller, a plugin author",
    r"\b(?:is|are|was|were|be|been) told\b": "gets …, is informed, or is reported",
    r", also (?:if|when|while|after)\b": "even if, even when …",
    r'"""What\b': "begin a docstring with a verb or with a noun that names the thing",
    r"(?:DESIGN|STYLE|SERVERS)\.md": "a page that the repository has",
}
"""Each phrase, with what to write instead."""


def main() -> int:
    """Print each place that holds such a phrase. Return 1 if there is one."""
    command = ["git", "ls-files", *READ]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found = 0
    for name in listed.stdout.splitlines():
        if name == "tools/words.py":
            continue
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
            for phrase, instead in INSTEAD.items():
                match = re.search(phrase, line, re.IGNORECASE)
                if match is not None:
                    found += 1
                    print(f"{name}:{number}: {match[0]!r}: write {instead}")
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
