"""The settings of Sphinx for the site that `make site` builds."""

import re

from sphinx.application import Sphinx  # type: ignore[import-not-found] # pyright: ignore[reportMissingImports] - in build/site-env

from tools.public_api import INTERNAL, RECEIVED

project = "brrr"
copyright = "the authors of brrr"  # noqa: A001 - the name that Sphinx reads
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid"]
html_theme = "furo"
html_title = "brrr"
html_copy_source = False

myst_heading_anchors = 6  # of the same form as on GitHub
myst_fence_as_directive = ["mermaid"]

default_role = "py:obj"  # docstrings are written in Markdown: `name` is code, and a link if the name is public
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has the types
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# Every type in a public signature must be public, except the types of these objects, which a program passes on or
# calls at once: the argument of `AppWorker.handle`, and the result of `handler(...)`.
UNNAMED = r"brrr_core\.engine\.run\.Run|brrr_core\.app\.handlers\.(Plain)?HandlerDecorator"
# Other libraries and type variables have no page here.
nitpick_ignore_regex = [(r"py:.*", rf"(?!brrr_).*|brrr_.*\.(T\d?|\w+T(_co)?)|{UNNAMED}")]


def setup(app: Sphinx) -> None:
    """Register the functions below."""
    app.connect("autodoc-process-signature", show_signature)
    app.connect("autodoc-skip-member", skip)


def show_signature(
    _app: Sphinx, _what: str, name: str, item: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Hide the constructors of classes that programs only receive, and show a class as a default by its name."""
    if name.rpartition(".")[2] in RECEIVED and isinstance(item, type):
        return "", None
    return (re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", signature), returns) if signature else None


def skip(_app: Sphinx, _what: str, _name: str, member: object, *_: object) -> bool | None:
    """Leave out what only the worker calls, and the fields of named tuples, which the docstring describes."""
    is_field = type(member).__name__ == "_tuplegetter"
    return True if is_field or getattr(member, "__qualname__", "") in INTERNAL else None
