"""brrr-nats uses only the public names of nats-py."""

import ast
from pathlib import Path

import pytest

import brrr_nats

FOLDER = Path(brrr_nats.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.py"))


def private_names(source: str) -> set[str]:
    """Return the private names that a module uses of other objects than its own, as attributes, keywords or texts."""
    found: set[str] = set()
    own = {"self", "cls"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in own):
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg is not None:
            found.add(node.arg)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr"}:
            found.update(str(each.value) for each in node.args if isinstance(each, ast.Constant))
        elif isinstance(node, ast.ImportFrom):
            found.update(word for each in node.names for word in [*(node.module or "").split("."), each.name])
    return {name for name in found if name.startswith("_") and not name.endswith("__")}


def bases(source: str) -> set[str]:
    """Return the names of nats-py that a module imports and derives classes from."""
    tree = ast.parse(source)
    imported = {
        each.asname or each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nats"
        for each in node.names
    }
    return imported & {
        base.id
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_private_member_of_another_object_is_used(path):
    assert private_names(path.read_text()) == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_class_of_nats_py_is_extended(path):
    """An override of a private method would not be seen otherwise."""
    assert bases(path.read_text()) == set()


@pytest.mark.parametrize(
    "line",
    [
        "client._status",
        "self.client._process_info(x)",
        "getattr(client, '_transport')",
        "Msg(_client=c)",
        "from nats.aio.client import _logger",
        "from nats._private import x",
    ],
)
def test_private_names_are_recognised(line):
    assert private_names(line)


def test_extended_classes_are_recognised():
    assert bases("from nats.aio.client import Client\nclass Ours(Client): pass") == {"Client"}
