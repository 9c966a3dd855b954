from __future__ import annotations

from typing import Any

import pytest

from kmsconn.errors import Rejected
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm.operations import build_extra_data, normalise_extra_data, parse_extra_data
from tests import vectors

CONTEXT, EPOCH = (7 << 248) + 1, (8 << 248) + 1
B1 = bytes.fromhex("02" + "07" + "00" * 30 + "01" + "08" + "00" * 30 + "01")


def test_b1_context_and_epoch() -> None:
    assert parse_extra_data(B1) == (CONTEXT, EPOCH)
    assert build_extra_data(CONTEXT, EPOCH) == B1


@pytest.mark.parametrize("entry", vectors.requests(), ids=lambda entry: entry["name"])
def test_ids_of_the_vectors(entry: dict[str, Any]) -> None:
    expected = vectors.optional_id(entry["context_id"]), vectors.optional_id(entry["epoch_id"])
    assert parse_extra_data(from_hex(entry["extra_data"])) == expected


@pytest.mark.parametrize("extra_data", [b"", b"\0", b"\0" + B1])
def test_version_0_names_nothing_whatever_follows(extra_data: bytes) -> None:
    assert parse_extra_data(extra_data) == (None, None)


@pytest.mark.parametrize("rest", [b"", b"more", bytes(32)])
def test_what_follows_the_ids_is_ignored(rest: bytes) -> None:
    assert parse_extra_data(B1 + rest) == (CONTEXT, EPOCH)
    assert parse_extra_data(b"\x01" + B1[1:33] + rest) == (CONTEXT, None)


@pytest.mark.parametrize("extra_data", [b"\x01", B1[:1], b"\x01" + bytes(31), B1[:33], B1[:64]])
def test_too_few_bytes_are_rejected(extra_data: bytes) -> None:
    with pytest.raises(Rejected, match="ends after"):
        parse_extra_data(extra_data)


@pytest.mark.parametrize("version", [3, 4, 0x80, 0xFF])
def test_unknown_versions_are_rejected(version: int) -> None:
    with pytest.raises(Rejected, match=f"version {version} "):
        parse_extra_data(bytes([version]) + bytes(64))


def test_only_the_single_zero_byte_becomes_empty() -> None:
    assert [normalise_extra_data(given) for given in (b"\0", b"", b"\0\0", b"\x01", B1)] == [
        b"",
        b"",
        b"\0\0",
        b"\x01",
        B1,
    ]


def test_an_epoch_needs_its_context() -> None:
    with pytest.raises(ValueError, match="needs its context"):
        build_extra_data(None, EPOCH)
