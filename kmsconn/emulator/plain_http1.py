"""The server side of the plain case of HTTP/1.1 as bytes: GET or HEAD without a body, answered by bytes of a known length. Never any I/O.

Reading and writing these with h11 takes most of the CPU of a bucket's answer. Everything that is not obviously plain is left to h11,
so what is accepted and what is refused stays h11's decision.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import attrs

LARGEST: Final = 8 * 1024
"""Bytes of a head; h11 takes 16 KiB."""
_LINE: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [!-~](?:[ -~]*[!-~])?\r\n"
_HEAD: Final = re.compile(rb"(GET|HEAD) (/[!-~]*) HTTP/1\.1\r\n((?:" + _LINE + rb")+)\r\n")
_LEFT_TO_H11: Final = frozenset({"connection", "content-length", "expect", "transfer-encoding", "upgrade"})
_FRAMED: Final = frozenset({"connection", "content-length", "transfer-encoding"})
_WITH_A_BODY: Final = frozenset(range(200, 600)) - {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


@attrs.frozen
class PlainHead:
    """The head of a plain request, and its bytes as they came; header names are lower case."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    raw: bytes


def read_plain_request(data: bytes) -> PlainHead | None:
    """Return the head of the plain request at the start; None where there is none, or not the whole of it."""
    found = _HEAD.match(data)
    if found is None or found.end() > LARGEST:
        return None
    headers = tuple(_header(line) for line in found[3].decode("ascii").splitlines())
    names = [name for name, _ in headers]
    if names.count("host") != 1 or not _LEFT_TO_H11.isdisjoint(names):
        return None
    return PlainHead(found[1].decode("ascii"), found[2].decode("ascii"), headers, found[0])


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value


def write_plain_answer(status: int, headers: Iterable[tuple[str, str]], length: int) -> bytes | None:
    """Return the head of an answer with a body of this length; None where it is not plain."""
    if status not in _WITH_A_BODY:
        return None
    lines = [f"HTTP/1.1 {status} \r\n"]
    for name, value in headers:
        if name.lower() in _FRAMED or not (_is_plain(name) and _is_plain(value)):
            return None
        lines.append(f"{name}: {value}\r\n")
    lines.append(f"content-length: {length}\r\n\r\n")
    return "".join(lines).encode("ascii")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip() != ""
