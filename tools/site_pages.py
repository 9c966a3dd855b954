"""What the documentation site adds to the pages of ``docs``, as a Sphinx extension. Changes no file.

Pages link to files of the repository beside ``docs``: the site has a page for each of them. Lists of pages in a folder get their
place in the navigation. Pages that stand at the root of the repository, such as the changelog, are taken in.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils import new_document
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.application import Sphinx

from tools.changelog import CHANGELOG, FOLDER, UNRELEASED, read_fragments, sections

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

SUBPAGES = {"alerts": "runbook/*", "decisions/README": "[0-9]*"}
"""Pages whose folder of further pages the navigation shows beneath them."""

FROM_THE_ROOT = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md", "security": "SECURITY.md"}
"""Pages that take in a file at the root of the repository."""

SCHEME = "repository:"
_COMPUTED = re.compile(r"attr_dict\['\w+'\]\.default|NOTHING")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def read_source(app: Sphinx, name: str, source: list[str]) -> None:
    """Change the text of a page before it is parsed."""
    if app.env.doc2path(name).suffix == ".md":
        source[0] = with_links(source[0], (DOCS / name).parent, name) + subpages(name)


class RootPage(Directive):  # type: ignore[misc]
    """The text of a file at the root of the repository, as a page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse it as Markdown."""
        from myst_parser.parsers.sphinx_ import MystParser

        path = ROOT / self.arguments[0]
        environment = self.state.document.settings.env
        environment.note_dependency(str(path))
        text = path.read_text(encoding="utf-8")
        text = with_fragments(text) if path == CHANGELOG else text
        document = new_document(str(path), self.state.document.settings)
        MystParser().parse(with_links(text, ROOT, environment.docname), document)
        shown: list[nodes.Node] = document.children
        return shown


def with_fragments(changelog: str) -> str:
    """Return the changelog with what stands in its fragments."""
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n{sections(read_fragments(FOLDER))}", 1)


def subpages(name: str) -> str:
    """Return the list of pages for the navigation that stand beneath a page."""
    if name not in SUBPAGES:
        return ""
    return f"\n\n:::{{toctree}}\n:hidden:\n:glob:\n\n{SUBPAGES[name]}\n:::\n"


def with_links(text: str, folder: Path, name: str) -> str:
    """Return a page's text with its links as the site has them; ``folder`` is where the text stands in the repository."""

    def renewed(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link["path"]))
        return f"]({address_of(target, (DOCS / name).parent)}{link['anchor'] or ''})"

    parts = _FENCE.split(text)  # what is fenced stands at the odd places
    return "".join(part if at % 2 else _LINK.sub(renewed, part) for at, part in enumerate(parts))


def address_of(target: Path, folder: Path) -> str:
    """Return what a page in ``folder`` of the site links to for a file of the repository."""
    pages = {ROOT / path: DOCS / f"{page}.rst" for page, path in FROM_THE_ROOT.items()}
    target = DOCS / "index.rst" if target == ROOT / "README.md" else pages.get(target, target)
    if target.is_relative_to(DOCS) and target.suffix in {".md", ".rst", ".svg"}:
        return os.path.relpath(target, folder)
    return f"{SCHEME}{target.relative_to(ROOT)}"


# --- signatures


def write_signature(  # what Sphinx hands over
    _app: Sphinx,
    _what: str,
    _name: str,
    found: Any,
    _options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Return a signature as a reader needs it: defaults that attrs computes are left open, a context manager is called one."""
    if signature:
        signature = _COMPUTED.sub("...", signature)
    if returns and hasattr(found, "__wrapped__"):
        returns = returns.replace("AsyncIterator[", "AbstractAsyncContextManager[")
        returns = re.sub(r"\bIterator\[", "AbstractContextManager[", returns)
    return signature, returns


# --- pages of files


def page_of(path: str) -> str:
    """Return the site's page for a file or folder of the repository."""
    return f"files/{path}"


def resolve_files(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Point the links to files of the repository at their pages, and note these."""
    for link in doctree.findall(nodes.reference):
        if link.get("refuri", "").startswith(SCHEME):
            path = link["refuri"].removeprefix(SCHEME)
            link["refuri"] = app.builder.get_relative_uri(name, page_of(path))
            wanted(app).add(path)


def wanted(app: Sphinx) -> set[str]:
    """Return the files and folders that pages of this build link to."""
    found: set[str] = app.__dict__.setdefault("kmsconn_files", set())
    return found


def collect_files(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each file and folder that is linked, and for what is in these folders."""
    waiting, done = sorted(wanted(app)), set[str]()
    while waiting:
        path = waiting.pop()
        if path not in done:
            done.add(path)
            inside = contents(ROOT / path)
            waiting += inside
            body = listing(app, path, inside) if (ROOT / path).is_dir() else highlighted(app, ROOT / path)
            title = f"<h1><code>{html.escape(path)}</code></h1>"
            yield (
                page_of(path),
                {"title": path, "body": title + body, "current_page_name": page_of(path)},
                "page.html",
            )


def contents(path: Path) -> list[str]:
    """Return what is in a folder; nothing for a file."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    return [str(one.relative_to(ROOT)) for one in inside if one.name != "__pycache__"]


def listing(app: Sphinx, path: str, inside: list[str]) -> str:
    """Return the list of links of a folder's page."""
    links = [
        f'<li><a href="{app.builder.get_relative_uri(page_of(path), page_of(one))}"><code>{Path(one).name}</code></a></li>'
        for one in inside
    ]
    return f"<ul>{''.join(links)}</ul>"


def highlighted(app: Sphinx, path: Path) -> str:
    """Return the text of a file with its syntax coloured."""
    text = path.read_text(encoding="utf-8")
    try:
        language = get_lexer_for_filename(path.name).aliases[0]
    except (ClassNotFound, IndexError):
        language = "text"
    shown: str = app.builder.highlighter.highlight_block(text, language, linenos=False)  # type: ignore[attr-defined]
    return shown


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect with Sphinx."""
    app.add_lexer("promql", TextLexer)  # that of Pygments refuses the colons in names of recording rules
    app.add_directive("root-page", RootPage)
    app.connect("autodoc-process-signature", write_signature)
    app.connect("source-read", read_source)
    app.connect("doctree-resolved", resolve_files)
    app.connect("html-collect-pages", collect_files)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
