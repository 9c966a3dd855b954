"""The strict decoder refuses what the library would take for a whole message."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import betterproto2
import pytest

from kmsconn._generated.fhevm.kms import v1
from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn._generated.httpz_rc7.kms.v1 import KeyGenResult
from kmsconn.errors import Undecodable
from kmsconn.protocols.proto_writer import SPLICED, encode, splice, varint
from kmsconn.protocols.protobuf import decode, fields

USER_REPLY = v1.UserDecryptionResponse(
    signature=b"s" * 65,
    external_signature=b"e" * 65,
    payload=v1.UserDecryptionResponsePayload(
        verification_key=b"v" * 41,
        digest=b"d" * 32,
        signcrypted_ciphertexts=[
            v1.TypedSigncryptedCiphertext(
                fhe_type=5, signcrypted_ciphertext=b"c" * 90, external_handle=b"h" * 32, packing_factor=1
            )
        ],
        party_id=1,
        degree=300,
    ),
    extra_data=b"\x00",
)


@dataclasses.dataclass(eq=False, repr=False)
class Numbers(betterproto2.Message):
    """A message of our own with the kinds of fields that kms.v1 does not have."""

    packed: list[int] = betterproto2.field(1, betterproto2.TYPE_UINT32, repeated=True)  # noqa: RUF009 - its way to declare
    wide: list[int] = betterproto2.field(2, betterproto2.TYPE_FIXED64, repeated=True)  # noqa: RUF009
    single: int = betterproto2.field(3, betterproto2.TYPE_FIXED32)
    names: dict[str, int] = betterproto2.field(  # noqa: RUF009
        4,
        betterproto2.TYPE_MAP,
        map_meta=betterproto2.map_meta(betterproto2.TYPE_STRING, betterproto2.TYPE_UINT32),
    )
    below: Numbers | None = betterproto2.field(5, betterproto2.TYPE_MESSAGE)  # noqa: RUF009


def test_a_whole_message_is_decoded() -> None:
    assert decode(v1.UserDecryptionResponse, bytes(USER_REPLY)) == USER_REPLY


def test_the_empty_message_is_legal() -> None:
    assert v1.Empty() == decode(v1.Empty, b"")


def test_every_truncation_is_refused_but_those_on_a_field_boundary() -> None:
    """67, 134 and 352 end after signature, external_signature and payload: legal messages of their own."""
    data = bytes(USER_REPLY)
    accepted = []
    for size in range(len(data)):
        try:
            decode(v1.UserDecryptionResponse, data[:size])
        except Undecodable:
            continue
        accepted.append(size)
    assert accepted == [0, 67, 134, 352]


def test_an_inner_length_beyond_its_message_is_refused() -> None:
    inner = b"\x0a\x05abcd"  # says 5, has 4
    with pytest.raises(Undecodable, match="needs 5 bytes, 4 are left"):
        decode(v1.PublicDecryptionRequest, b"\x0a" + bytes([len(inner)]) + inner)


def test_unknown_fields_are_skipped() -> None:
    unknown = b"\xf8\x3f\x01" + b"\xfa\x3f\x02xy" + b"\xfd\x3f1234" + b"\xf9\x3f12345678"
    assert decode(v1.RequestId, unknown + b"\x0a\x02ab" + unknown).request_id == "ab"


@pytest.mark.parametrize("wire", [3, 4, 6, 7])
def test_groups_and_reserved_wire_types_are_refused(wire: int) -> None:
    with pytest.raises(Undecodable, match=f"wire type {wire}"):
        decode(v1.RequestId, bytes([(9 << 3) | wire]))


@pytest.mark.parametrize("key", [b"\x02", b"\x80\x80\x80\x80\x10"])
def test_field_numbers_out_of_range_are_refused(key: bytes) -> None:
    with pytest.raises(Undecodable, match="out of range"):
        decode(v1.RequestId, key + b"\x00")


@pytest.mark.parametrize("data", [b"\x08\x01", b"\x0d1234", b"\x0912345678"])
def test_text_in_another_wire_type_is_refused(data: bytes) -> None:
    with pytest.raises(Undecodable, match=r"RequestId\.request_id has wire type"):
        decode(v1.RequestId, data)


def test_a_singular_number_is_not_taken_packed() -> None:
    with pytest.raises(Undecodable, match=r"TypedCiphertext\.fhe_type"):
        decode(v1.TypedCiphertext, b"\x12\x01\x05")


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(Undecodable, match=r"RequestId\.request_id is not UTF-8"):
        decode(v1.RequestId, b"\x0a\x02\xc3\x28")


def test_bytes_need_not_be_utf_8() -> None:
    assert decode(v1.TypedPlaintext, b"\x0a\x01\xff").bytes == b"\xff"


def test_a_singular_message_twice_is_refused() -> None:
    """Protobuf would merge them; the library keeps the last; no honest encoder writes it."""
    with pytest.raises(Undecodable, match="occurs twice"):
        decode(v1.UserDecryptionResponse, b"\x1a\x00\x1a\x00")


def test_repeated_messages_may_occur_often() -> None:
    assert len(decode(v1.PublicDecryptionResponsePayload, b"\x12\x00\x12\x00").plaintexts) == 2


@pytest.mark.parametrize("varint", [b"\xff" * 9 + b"\x02", b"\x80" * 10, b"\x80"])
def test_varints_beyond_64_bits_or_without_end_are_refused(varint: bytes) -> None:
    with pytest.raises(Undecodable, match="no varint"):
        decode(v1.TypedCiphertext, b"\x10" + varint)


def test_a_negative_number_is_read_from_ten_bytes() -> None:
    message = v1.TypedCiphertext(fhe_type=-1)
    assert decode(v1.TypedCiphertext, bytes(message)).fhe_type == -1


def test_a_message_that_the_library_parses_is_walked_all_the_same() -> None:
    message = v1.TypedCiphertext(fhe_type=3, ciphertext_format=v1.CiphertextFormat(2))
    assert decode(v1.TypedCiphertext, bytes(message)) == message
    with pytest.raises(Undecodable):
        decode(v1.TypedCiphertext, bytes(message)[:-1])


def test_the_number_of_an_enum_is_no_size() -> None:
    """A field of bytes is made from its view; one that is not read here must not be made into so many bytes."""
    assert decode(v1.TypedCiphertext, b"\x20" + b"\xff" * 9 + b"\x01") is not None


def test_presence_of_an_optional_field_survives() -> None:
    assert decode(v1.Eip712DomainMsg, bytes(v1.Eip712DomainMsg(salt=b""))).salt == b""
    assert decode(v1.Eip712DomainMsg, b"").salt is None


def test_packed_and_single_numbers_and_maps_are_read() -> None:
    message = Numbers(packed=[1, 300], wide=[5], single=7, names={"a": 1, "b": 2})
    assert message == decode(Numbers, bytes(message))
    assert decode(Numbers, b"\x08\x01\x08\x02").packed == [1, 2]


@pytest.mark.parametrize(
    "data", [b"\x0a\x01\x80", b"\x12\x0712345677", b"\x12\x09123456789", b"\x22\x02\x08\x01"]
)
def test_broken_packed_numbers_and_map_entries_are_refused(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(Numbers, data)


def test_nesting_is_bounded() -> None:
    data = b""
    for _ in range(31):
        data = b"\x2a" + betterproto2.encode_varint(len(data)) + data
    decode(Numbers, data)
    with pytest.raises(Undecodable, match="too deeply"):
        decode(Numbers, b"\x2a" + betterproto2.encode_varint(len(data)) + data)


def test_fields_gives_number_wire_type_and_value() -> None:
    found = [(number, wire, value) for number, wire, value in fields(b"\x08\x96\x01\x12\x02hi")]
    assert found == [(1, 0, 150), (2, 2, b"hi")]


@dataclass(eq=False, repr=False)
class Example(betterproto2.Message):
    """The messages of the format's documentation, in one."""

    a: int = betterproto2.field(1, betterproto2.TYPE_INT32)
    b: str = betterproto2.field(2, betterproto2.TYPE_STRING)


@dataclass(eq=False, repr=False)
class Packed(betterproto2.Message):
    """The message of the documentation with a list of numbers."""

    f: list[int] = betterproto2.field(6, betterproto2.TYPE_INT32, repeated=True)  # noqa: RUF009


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (150, "9601"), (2**64 - 1, "ff" * 9 + "01")],
)
def test_varints(number: int, encoded: str) -> None:
    assert varint(number).hex() == encoded


def test_the_examples_of_the_format_s_documentation() -> None:
    assert bytes(encode(Example(a=150))).hex() == "089601"
    assert bytes(encode(Example(b="testing"))).hex() == "120774657374696e67"


def test_defaults_are_left_out_but_what_is_present_is_not() -> None:
    assert bytes(encode(kms.CrsGenRequest())) == b""
    assert bytes(encode(kms.CrsGenRequest(max_num_bits=0, domain=kms.Eip712DomainMsg()))).hex() == "18002200"


def test_each_value_of_a_list_is_written_the_empty_ones_too() -> None:
    node = kms.MpcNode(extra_signer_addresses=[b"", b"\x01"])
    assert (
        bytes(encode(kms.MpcContext(mpc_nodes=[node, kms.MpcNode()]))).hex() == "0a05" + "4200420101" + "0a00"
    )


def test_negative_numbers_take_ten_bytes() -> None:
    assert bytes(encode(Example(a=-1))) == b"\x08" + b"\xff" * 9 + b"\x01"


def test_a_kind_of_field_that_is_not_written_is_named() -> None:
    with pytest.raises(TypeError, match="of a kind that is not written"):
        encode(KeyGenResult())


def test_a_list_of_numbers_is_packed() -> None:
    assert bytes(encode(Packed([3, 270, 86942]))).hex() == "3206038e029ea705"
    assert bytes(encode(Packed([]))) == b""
    assert bytes(encode(Packed([-1]))) == b"\x32\x0a" + b"\xff" * 9 + b"\x01"


def test_a_zero_in_a_list_is_on_the_wire() -> None:
    """What asks for ECDSA, the scheme 0, differs from what asks for nothing."""
    request = kms.PublicDecryptionRequest(signing_schemes=[kms.SigningSchemeType.ECDSA256K1])
    assert bytes(encode(request)).hex() == "420100"


def test_large_parts_stay_and_small_dependencies_become_one() -> None:
    body = bytes(SPLICED)
    chunks = splice([b"a", b"b", body, b"c", body])
    assert chunks.parts == (b"ab", body, b"c", body)
    assert chunks.parts[1] is body
    assert chunks.parts[3] is body


def test_nothing_is_no_part() -> None:
    assert splice([]).parts == ()
