"""The documentation site: ``make site`` builds it from this folder with Sphinx, and a warning is an error.

Pages are plain Markdown that reads well in the repository too; what only the site needs is added by ``tools/site_pages.py``.
"""

# ruff: noqa: INP001 - read by Sphinx, imported by nobody

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from kmsconn import __version__  # noqa: E402 - the path comes first

project = "kmsconn"
author = "The kmsconn developers"
copyright = author  # noqa: A001 - Sphinx calls it so
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "tools.site_pages"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["examples"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
myst_url_schemes = ["http", "https", "mailto", "repository"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"OnEvent": "kmsconn.OnEvent", "Event": "kmsconn.Event", "Settings": "kmsconn.Config"}
toc_object_entries_show_parents = "hide"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
add_module_names = False

html_theme = "furo"
html_title = f"kmsconn {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
