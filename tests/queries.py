"""What a PromQL expression reads: the names of its metrics and labels. Not a parser: enough for the queries of rules and dashboards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import attrs

_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"([a-zA-Z_][\w:]*)\s*(?:\{([^}]*)\})?(?!\w*\s*\()")
_CLAUSE = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_WINDOW = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")
_WORDS = frozenset({"and", "or", "unless", "bool", "sum", "inf"})


@attrs.frozen
class Reading:
    """One metric that is read, with the labels that are matched; ``kept`` are those that an aggregation keeps."""

    name: str
    labels: frozenset[str]


def readings(expression: str) -> Iterator[Reading]:
    """Yield each metric that an expression reads."""
    text = _WINDOW.sub("", _CLAUSE.sub("", _STRING.sub('""', expression)))
    for name, matchers in _SELECTOR.findall(text):
        if name not in _WORDS and not _is_call(text, name) and not re.fullmatch(r"e\d*", name):
            yield Reading(name, frozenset(re.findall(r"(\w+)\s*(?:=|!)", matchers)))


def _is_call(text: str, name: str) -> bool:
    return re.search(rf"\b{name}\s*\(", text) is not None


def kept(expression: str) -> frozenset[str]:
    """Return the labels that aggregations and comparisons of an expression name."""
    return frozenset(
        label.strip()
        for clause in _CLAUSE.findall(expression)
        for label in clause.split(",")
        if label.strip()
    )


def named_by_text(texts: Iterable[str]) -> frozenset[str]:
    """Return the labels that a summary or a legend fills in."""
    return frozenset(name for text in texts for name in re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text))
