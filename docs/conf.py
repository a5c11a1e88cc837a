"""How the documentation is built: `make docs`, warnings as errors, into build/docs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "certify"
copyright = "2026, the authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
exclude_patterns = ["results", "examples"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = [
    "myst.xref_missing",  # links to files of the repository, which the pages have where they are read as files
    "ref.python",  # a box is a region, and a way of patching
]
default_role = "code"  # docstrings are plain text with `names` in backticks
html_theme = "alabaster"
html_theme_options = {"page_width": "1240px", "sidebar_width": "240px"}
html_title = "certify: proofs about circuits"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}


def _signature(app: object, what: str, name: str, item: object, *rest: object) -> tuple[str, str] | None:
    """A record's fields are listed one by one; as arguments of its constructor they would say the same, unreadably."""
    return ("", "") if isinstance(item, type) and issubclass(item, BaseModel) else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _signature)
