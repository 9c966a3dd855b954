from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode as decode_abi

from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.httpz_rc7.plaintexts import SIZES, Plaintext, PlaintextForm, encode
from tests.vectors import httpz

ROWS = httpz.annex()["plaintext_encodings"]
LARGE = (9, 10, 11)
BATCH: list[Plaintext] = [
    (11, (257).to_bytes(256, "little")),
    (0, b"\x01"),
    (1, b"\x04"),
    (1, b"\x05"),
    (11, (257).to_bytes(256, "little")),
    (2, b"\x08"),
    (3, (16).to_bytes(2, "little")),
    (4, (32).to_bytes(4, "little")),
    (6, (128).to_bytes(16, "little")),
    (7, (234 + (255 << 128)).to_bytes(20, "little")),
    (8, (1 + (256 << 128)).to_bytes(32, "little")),
    (11, (257).to_bytes(256, "little")),
]
BATCH_HEAD = (
    "1a0 1 4 5 2c0 8 10 20 80 ff000000000000000000000000000000ea 10000000000000000000000000000000001 3e0"
)


def words(text: str) -> bytes:
    return b"".join(int(word, 16).to_bytes(32) for word in text.split())


def values(row: dict[str, Any]) -> list[Plaintext]:
    return [(one["fhe_type"], bytes.fromhex(one["bytes_le"])) for one in row["plaintexts"]]


@pytest.mark.parametrize("form", ["P1", "P2", "P3"])
@pytest.mark.parametrize("row", ROWS)
def test_the_rows_of_the_specification(row: dict[str, Any], form: str) -> None:
    assert encode(PlaintextForm(form.lower()), values(row)).hex() == row[form]


def test_the_batch_of_annex_a7() -> None:
    large = words("100") + bytes(254) + b"\x01\x01"
    assert encode(PlaintextForm.P1, BATCH) == words(BATCH_HEAD) + large * 3


def recorded() -> list[tuple[str, dict[str, Any]]]:
    return httpz.exchanges("public_decryption")


@pytest.mark.parametrize(("revision", "entry"), recorded(), ids=httpz.name_of)
def test_recorded_results_of_every_form(revision: str, entry: dict[str, Any]) -> None:
    reply = entry["reply"]
    form = {"P0": PlaintextForm.RAW}.get(reply["plaintext_form"]) or PlaintextForm(
        reply["plaintext_form"].lower()
    )
    plaintexts = [(one["fhe_type"], from_hex(one["bytes"])) for one in reply["core_answer"]["plaintexts"]]
    assert encode(form, plaintexts) == from_hex(reply["decrypted_result"])


@pytest.mark.parametrize("entry", httpz.load()["p3_consumer"], ids=httpz.name_of)
def test_p3_between_an_id_and_signatures_is_one_argument_list(entry: dict[str, Any]) -> None:
    whole = (
        from_hex(entry["request_id"]) + from_hex(entry["P3"]) + from_hex(entry["appended_signatures_tail"])
    )
    assert whole == from_hex(entry["concatenation"])
    decoded = decode_abi(entry["types"], whole)
    plaintexts = [_plaintext(value) for value in decoded[1:-1]]
    assert encode(PlaintextForm.P3, plaintexts) == from_hex(entry["P3"])


def _plaintext(value: int | bytes) -> Plaintext:
    if isinstance(value, int):
        return 8, value.to_bytes(32, "little")
    (kind,) = [kind for kind in LARGE if SIZES[kind] == len(value)]
    return kind, value[::-1]


@pytest.mark.parametrize("fhe_type", [kind for kind, size in SIZES.items() if size <= 16])
def test_sixteen_bytes_of_a_threshold_core_give_the_same_p1_and_p3(fhe_type: int) -> None:
    short = b"\x01" + bytes(SIZES[fhe_type] - 1)
    for form in (PlaintextForm.P1, PlaintextForm.P3):
        assert encode(form, [(fhe_type, short.ljust(16, b"\0"))]) == encode(form, [(fhe_type, short)])


@pytest.mark.parametrize(
    ("fhe_type", "raw", "p1", "p3"),
    [
        (0, "ff", 1, 0xFF),
        (0, "02", 0, 2),
        (1, "1f", 15, 31),
        (2, "01020304", 1, 0x04030201),
        (3, "0102", 0x0201, 0x0201),
        (3, "01", 1, 1),
        (5, "", 0, 0),
    ],
)
def test_p1_narrows_to_the_type_and_p3_does_not(fhe_type: int, raw: str, p1: int, p3: int) -> None:
    plaintext = (fhe_type, bytes.fromhex(raw))
    assert int.from_bytes(encode(PlaintextForm.P1, [plaintext])) == p1
    assert int.from_bytes(encode(PlaintextForm.P3, [plaintext])[:32]) == p3


@pytest.mark.parametrize("fhe_type", [0, 1, 2])
def test_p1_has_no_value_without_its_first_byte(fhe_type: int) -> None:
    with pytest.raises(ValueError, match="no bytes"):
        encode(PlaintextForm.P1, [(fhe_type, b"")])


@pytest.mark.parametrize("plaintext", [(8, bytes(33)), (9, bytes(63)), (10, bytes(129)), (11, b"")])
def test_p3_signs_no_zeros_for_a_value_of_the_wrong_size(plaintext: Plaintext) -> None:
    with pytest.raises(ValueError, match="bytes, "):
        encode(PlaintextForm.P3, [plaintext])


@pytest.mark.parametrize("form", PlaintextForm)
def test_unknown_types_have_no_form(form: PlaintextForm) -> None:
    with pytest.raises(ValueError, match="FHE type 12"):
        encode(form, [(12, b"\x01")])


def test_no_values() -> None:
    assert encode(PlaintextForm.P1, []) == encode(PlaintextForm.P2, []) == b""
    assert encode(PlaintextForm.P3, []) == words("40")
    with pytest.raises(ValueError, match="one value, not 0"):
        encode(PlaintextForm.RAW, [])


def test_the_raw_form_is_one_value_untouched() -> None:
    assert encode(PlaintextForm.RAW, [(5, b"\x01\x02\x03")]) == b"\x01\x02\x03"
    with pytest.raises(ValueError, match="one value, not 2"):
        encode(PlaintextForm.RAW, [(5, b"\x01"), (5, b"\x02")])
