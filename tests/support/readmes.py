"""What the README of a plugin says, for the tests that hold it to that."""

import re


def options_of(readme: str) -> set[str]:
    """The options in its table; of one that is read from the environment the name without `_env`."""
    table = readme.partition("## Options")[2].partition("##")[0]
    return {
        name.removesuffix("_env")
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
