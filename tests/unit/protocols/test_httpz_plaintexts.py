from __future__ import annotations

from typing import Any

import attrs
import pytest
from eth_abi.abi import decode as decode_abi

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import hash_struct
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import recover
from kmsconn.protocols.bincode import Share, SharePayload, decode, encode, encode_shares
from kmsconn.protocols.httpz_rc7 import messages
from kmsconn.protocols.httpz_rc7.messages import SIZES, Plaintext, PlaintextForm, encode_plaintexts
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
    assert encode_plaintexts(PlaintextForm(form.lower()), values(row)).hex() == row[form]


def test_the_batch_of_annex_a7() -> None:
    large = words("100") + bytes(254) + b"\x01\x01"
    assert encode_plaintexts(PlaintextForm.P1, BATCH) == words(BATCH_HEAD) + large * 3


def recorded() -> list[tuple[str, dict[str, Any]]]:
    return httpz.exchanges("public_decryption")


@pytest.mark.parametrize(("revision", "entry"), recorded(), ids=httpz.name_of)
def test_recorded_results_of_every_form(revision: str, entry: dict[str, Any]) -> None:
    reply = entry["reply"]
    form = {"P0": PlaintextForm.RAW}.get(reply["plaintext_form"]) or PlaintextForm(
        reply["plaintext_form"].lower()
    )
    plaintexts = [(one["fhe_type"], from_hex(one["bytes"])) for one in reply["core_answer"]["plaintexts"]]
    assert encode_plaintexts(form, plaintexts) == from_hex(reply["decrypted_result"])


@pytest.mark.parametrize("entry", httpz.load()["p3_consumer"], ids=httpz.name_of)
def test_p3_between_an_id_and_signatures_is_one_argument_list(entry: dict[str, Any]) -> None:
    whole = (
        from_hex(entry["request_id"]) + from_hex(entry["P3"]) + from_hex(entry["appended_signatures_tail"])
    )
    assert whole == from_hex(entry["concatenation"])
    decoded = decode_abi(entry["types"], whole)
    plaintexts = [_plaintext(value) for value in decoded[1:-1]]
    assert encode_plaintexts(PlaintextForm.P3, plaintexts) == from_hex(entry["P3"])


def _plaintext(value: int | bytes) -> Plaintext:
    if isinstance(value, int):
        return 8, value.to_bytes(32, "little")
    (kind,) = [kind for kind in LARGE if SIZES[kind] == len(value)]
    return kind, value[::-1]


@pytest.mark.parametrize("fhe_type", [kind for kind, size in SIZES.items() if size <= 16])
def test_sixteen_bytes_of_a_threshold_core_give_the_same_p1_and_p3(fhe_type: int) -> None:
    short = b"\x01" + bytes(SIZES[fhe_type] - 1)
    for form in (PlaintextForm.P1, PlaintextForm.P3):
        assert encode_plaintexts(form, [(fhe_type, short.ljust(16, b"\0"))]) == encode_plaintexts(
            form, [(fhe_type, short)]
        )


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
    assert int.from_bytes(encode_plaintexts(PlaintextForm.P1, [plaintext])) == p1
    assert int.from_bytes(encode_plaintexts(PlaintextForm.P3, [plaintext])[:32]) == p3


@pytest.mark.parametrize(
    ("form", "plaintext", "told"),
    [
        *((PlaintextForm.P1, (kind, b""), "no bytes") for kind in (0, 1, 2)),
        *((PlaintextForm.P3, one, "bytes, ") for one in ((8, bytes(33)), (9, bytes(63)), (10, bytes(129)), (11, b""))),
        *((form, (12, b"\x01"), "FHE type 12") for form in PlaintextForm),
    ],
)  # fmt: skip
def test_what_a_form_cannot_hold_is_refused(form: PlaintextForm, plaintext: Plaintext, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        encode_plaintexts(form, [plaintext])


def test_no_values_and_the_raw_form_which_is_one_value_untouched() -> None:
    assert encode_plaintexts(PlaintextForm.P1, []) == encode_plaintexts(PlaintextForm.P2, []) == b""
    assert encode_plaintexts(PlaintextForm.P3, []) == words("40")
    assert encode_plaintexts(PlaintextForm.RAW, [(5, b"\x01\x02\x03")]) == b"\x01\x02\x03"
    for wrong in ([], [(5, b"\x01"), (5, b"\x02")]):
        with pytest.raises(ValueError, match=f"one value, not {len(wrong)}"):
            encode_plaintexts(PlaintextForm.RAW, wrong)


ANNEX = httpz.annex()
DOMAIN = httpz.annex_domain()
HANDLES = [from_hex(ANNEX["handle_example"])]
THOUSAND = [(5, (1000).to_bytes(8, "little"))]


def test_domain_separators() -> None:
    assert DOMAIN.separator == from_hex(ANNEX["domain"]["separator"])
    for name in ("DecryptionManager", "HTTPZ"):
        assert httpz.domain(name).separator == from_hex(httpz.load()["domains"][name]["separator"])


TYPES = {
    f"{name} {kind}": getattr(messages, name).format(kind=kind)
    for name in ("PUBLIC_TYPE", "USER_TYPE", "LINKER_TYPE")
    for kind in ("bytes32", "uint256")
} | messages.OBJECT_TYPES
HASHES = {
    "PUBLIC_TYPE bytes32": "0fadf98b8136b99fb0131ba0fcbca3082d7d632509fad62cf0d18ebdf9670cc1",
    "PUBLIC_TYPE uint256": "8d43f0da8419a982954769cb6e074802155097b09bedf5f163b54a592d65c718",
    "USER_TYPE bytes32": "f7e27dfd3fe3d63db90df13495def08652c6cc0a1297cc39ca04f7d6dd403d76",
    "USER_TYPE uint256": "7f6bb5f3fdbc12583b01167038fdc9e1ec1a7c63781bf1a3ed19c1c9c8639c7b",
    "LINKER_TYPE bytes32": "ca7d247ab7f4b16af3ddc17af4d4dcba8020a110255fbcb816ae1700c8bd7410",
    "LINKER_TYPE uint256": "dd5173274d8a8cf0a5d6f6b1df148d45bd766b7b91e019196b1bbe9258f84fdd",
    "PublicKey": "a1108b8d8920c46956c8e8bf5b2e15ae46359c7eb5aa58ce1622f0638bd20b4a",
    "ServerKey": "5f515e1f0d8f9142e3e286e874bba6576b29b114f06634d3ad6e9225cc4b50bc",
    "SnsKey": "218bc774a79f8dfb89843477a29ad532c17f4504344943e554788b98db355149",
    "CRS": "742baadad9a09c82a94b935a0b51a5ff650ff7b666130019a58a637e91109fd7",
}


@pytest.mark.parametrize("name", HASHES)
def test_type_hashes_of_both_revisions_and_of_generated_objects(name: str) -> None:
    assert keccak256(TYPES[name].encode()).hex() == HASHES[name]


@pytest.mark.parametrize(
    ("form", "numeric", "key"),
    [
        (PlaintextForm.P1, False, "P1_bytes32"),
        (PlaintextForm.P1, True, "P1_uint256"),
        (PlaintextForm.P3, False, "P3_bytes32"),
    ],
)
def test_public_digests_and_the_signature_of_the_specification(
    form: PlaintextForm, numeric: bool, key: str
) -> None:
    vector = ANNEX["public_decrypt_digest"]
    digest = messages.public_digest(DOMAIN, HANDLES, encode_plaintexts(form, THOUSAND), numeric=numeric)
    assert digest == from_hex(vector[key])
    if (signature := vector.get(f"signature_by_private_key_1_over_{key}")) is not None:
        found = recover(digest, from_hex(signature))
        assert found == parse_address("0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf")


def test_the_user_digest_and_the_link_of_the_specification() -> None:
    vector = ANNEX["user_decrypt_response_digest"]
    share, key = from_hex(vector["reencryptedShare"]), from_hex(vector["publicKey"])
    assert messages.user_digest(DOMAIN, key, HANDLES, share, numeric=False) == from_hex(vector["digest"])
    vector = ANNEX["user_decryption_linker_digest"]
    user, key = parse_address(vector["userAddress"]), from_hex(vector["publicKey"])
    assert messages.link_digest(DOMAIN, key, HANDLES, user, numeric=False) == from_hex(vector["digest"])


@pytest.mark.parametrize(("revision", "entry"), httpz.exchanges("user_decryption"), ids=httpz.name_of)
def test_recorded_links(revision: str, entry: dict[str, Any]) -> None:
    decoded = entry["request"]["decoded"]
    handles = [from_hex(one["ctHandle"]) for one in decoded["snsCtMaterials"]]
    key, user = from_hex(decoded["publicKey"]), parse_address(decoded["userAddress"])
    link = messages.link_digest(httpz.domain(), key, handles, user, numeric=revision == "uint256")
    assert link == from_hex(entry["request"]["link"])


@pytest.mark.parametrize("entry", httpz.load()["bytes32"]["key_management"], ids=httpz.name_of)
def test_recorded_digests_of_keys_and_crs(entry: dict[str, Any]) -> None:
    answer = entry["core_answer"]
    results = answer.get("key_results") or {"CRS": answer.get("crs_results")}
    for name, expected in answer.get("eip712_digests", {}).items():
        key_handle = bytes.fromhex(results[name]["key_handle"])
        digest = messages.object_digest(httpz.domain("HTTPZ"), name, key_handle)
        assert digest == from_hex(expected)
        signer = parse_address(httpz.node(1)["signer"])
        assert recover(digest, from_hex(results[name]["external_signature"])) == signer


def test_a_decompression_key_has_no_struct() -> None:
    with pytest.raises(KeyError):
        messages.object_digest(DOMAIN, "DecompressionKey", bytes(32))


def test_a_short_handle_is_filled_up_on_the_left() -> None:
    short, long = [b"\x05"], [b"\x05".rjust(32, b"\0")]
    for numeric in (False, True):
        found = [messages.public_digest(DOMAIN, handles, b"", numeric=numeric) for handles in (short, long)]
        assert found[0] == found[1]


def test_a_handle_stands_in_its_place() -> None:
    text = "UserDecryptionLinker(bytes publicKey,bytes32[] handles,address userAddress)"
    assert hash_struct(text, b"", [b"a" * 32, b"b" * 32], bytes(20)) != hash_struct(
        text, b"", [b"b" * 32, b"a" * 32], bytes(20)
    )


B3 = bytes.fromhex(
    "020000000000000002aa0400000000000000d1d1d1d10100000000000000050000000200000000000000c0c1"
    "2000000000000000111111111111111111111111111111111111111111111111111111111111111101000000"
    "0300000001000000"
)
PAYLOAD = SharePayload(
    verification_key=b"\x02\xaa",
    digest=b"\xd1" * 4,
    signcrypted_ciphertexts=(Share(5, b"\xc0\xc1", b"\x11" * 32, 1),),
    party_id=3,
    degree=1,
)


@pytest.mark.parametrize(
    ("payload", "image"),
    [(PAYLOAD, B3), (SharePayload(b"", b"", (), 0, 0), bytes(32))],
    ids=["b3", "without shares"],
)
def test_a_payload_and_its_image(payload: SharePayload, image: bytes) -> None:
    assert encode(payload) == image
    assert decode(image) == payload


def test_the_first_generation_has_no_packing_factor() -> None:
    share = attrs.evolve(PAYLOAD.signcrypted_ciphertexts[0], packing_factor=None)
    payload = attrs.evolve(PAYLOAD, signcrypted_ciphertexts=(share,))
    image = B3[:-12] + B3[-8:]
    assert encode(payload) == image
    assert decode(image, packed=False) == payload


def test_shares_alone_are_the_middle_of_the_image() -> None:
    assert encode_shares(PAYLOAD.signcrypted_ciphertexts) == B3[22:-8]


@pytest.mark.parametrize("size", range(len(B3)))
def test_every_truncation_is_undecodable(size: int) -> None:
    with pytest.raises(Undecodable):
        decode(B3[:size])


@pytest.mark.parametrize(
    ("data", "told"),
    [(B3 + b"\0", "left over"), (bytes(16) + b"\xff" * 8 + bytes(100), "ends before its values do")],
)
def test_bytes_left_over_and_a_count_beyond_the_data_are_undecodable(data: bytes, told: str) -> None:
    with pytest.raises(Undecodable, match=told):
        decode(data)
