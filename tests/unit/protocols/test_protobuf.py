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
from kmsconn.protocols.protobuf import SPLICED, Chunks, decode, encode, fields, varint

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


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (v1.PublicDecryptionRequest, b"\x0a\x06\x0a\x05abcd", "needs 5 bytes, 4 are left"),  # an inner length
        *((v1.RequestId, bytes([(9 << 3) | wire]), f"wire type {wire}") for wire in (3, 4, 6, 7)),
        *((v1.RequestId, key + b"\x00", "out of range") for key in (b"\x02", b"\x80\x80\x80\x80\x10")),
        *(
            (v1.RequestId, data, r"RequestId\.request_id has wire type")
            for data in (b"\x08\x01", b"\x0d1234", b"\x0912345678")
        ),
        (v1.TypedCiphertext, b"\x12\x01\x05", r"TypedCiphertext\.fhe_type"),  # a single number, packed
        (v1.UserDecryptionResponse, b"\x0a\x01s\x08\x01", "has wire type 0"),  # once right, once wrong
        (v1.RequestId, b"\x0a\x02\xc3\x28", r"RequestId\.request_id is not UTF-8"),
        # protobuf would merge them; the library keeps the last; no honest encoder writes it
        (v1.UserDecryptionResponse, b"\x1a\x00\x1a\x00", "occurs twice"),
        *(
            (v1.TypedCiphertext, b"\x10" + varint, "no varint")
            for varint in (b"\xff" * 9 + b"\x02", b"\x80" * 10, b"\x80")
        ),
        *(
            (Numbers, data, None)
            for data in (b"\x0a\x01\x80", b"\x12\x0712345677", b"\x12\x09123456789", b"\x22\x02\x08\x01")
        ),
    ],
)
def test_what_no_honest_encoder_writes_is_refused(
    kind: type[betterproto2.Message], data: bytes, reason: str | None
) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(kind, data)


UNKNOWN = b"\xf8\x3f\x01" + b"\xfa\x3f\x02xy" + b"\xfd\x3f1234" + b"\xf9\x3f12345678"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (UNKNOWN + b"\x0a\x02ab" + UNKNOWN, v1.RequestId(request_id="ab")),
        (b"\x0a\x01\xff", v1.TypedPlaintext(bytes=b"\xff")),  # bytes need not be UTF-8
        (b"\x12\x00\x12\x00", v1.PublicDecryptionResponsePayload(plaintexts=[v1.TypedPlaintext()] * 2)),
        (b"\x10" + b"\xff" * 9 + b"\x01", v1.TypedCiphertext(fhe_type=-1)),
        # a field of bytes is made from its view; an enum's number must not be made into so many bytes
        (b"\x20" + b"\xff" * 9 + b"\x01", v1.TypedCiphertext(ciphertext_format=v1.CiphertextFormat(-1))),
        (bytes(v1.Eip712DomainMsg(salt=b"")), v1.Eip712DomainMsg(salt=b"")),
        (b"", v1.Eip712DomainMsg(salt=None)),
    ],
)
def test_what_is_legal_is_read(data: bytes, message: betterproto2.Message) -> None:
    assert decode(type(message), data) == message


def test_a_message_that_the_library_parses_is_walked_all_the_same() -> None:
    message = v1.TypedCiphertext(fhe_type=3, ciphertext_format=v1.CiphertextFormat(2))
    assert decode(v1.TypedCiphertext, bytes(message)) == message
    with pytest.raises(Undecodable):
        decode(v1.TypedCiphertext, bytes(message)[:-1])


def test_packed_and_single_numbers_and_maps_are_read() -> None:
    message = Numbers(packed=[1, 300], wide=[5], single=7, names={"a": 1, "b": 2})
    assert message == decode(Numbers, bytes(message))
    assert decode(Numbers, b"\x08\x01\x08\x02").packed == [1, 2]


def test_nesting_is_bounded() -> None:
    data = b""
    for _ in range(31):
        data = b"\x2a" + betterproto2.encode_varint(len(data)) + data
    decode(Numbers, data)
    with pytest.raises(Undecodable, match="too deeply"):
        decode(Numbers, b"\x2a" + betterproto2.encode_varint(len(data)) + data)


def test_fields_gives_key_and_value() -> None:
    assert list(fields(b"\x08\x96\x01\x12\x02hi")) == [(0x08, 150), (0x12, b"hi")]


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


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (Example(a=150), "089601"),
        (Example(b="testing"), "120774657374696e67"),
        (Example(a=-1), "08" + "ff" * 9 + "01"),
        (Packed([3, 270, 86942]), "3206038e029ea705"),
        (Packed([]), ""),
        (Packed([-1]), "320a" + "ff" * 9 + "01"),
        (kms.CrsGenRequest(), ""),  # defaults are left out, but what is present is not
        (kms.CrsGenRequest(max_num_bits=0, domain=kms.Eip712DomainMsg()), "18002200"),
        (
            kms.MpcContext(mpc_nodes=[kms.MpcNode(extra_signer_addresses=[b"", b"\x01"]), kms.MpcNode()]),
            "0a05" + "4200420101" + "0a00",
        ),
        # what asks for ECDSA, the scheme 0, differs from what asks for nothing
        (kms.PublicDecryptionRequest(signing_schemes=[kms.SigningSchemeType.ECDSA256K1]), "420100"),
    ],
)
def test_messages_are_written_as_the_format_s_documentation_has_them(
    message: betterproto2.Message, encoded: str
) -> None:
    assert bytes(encode(message)).hex() == encoded


def test_a_kind_of_field_that_is_not_written_is_named() -> None:
    with pytest.raises(TypeError, match="of a kind that is not written"):
        encode(KeyGenResult())


def test_large_parts_stay_and_small_dependencies_become_one() -> None:
    body = bytes(SPLICED)
    chunks = Chunks([b"a", b"b", body, b"c", body])
    assert chunks.parts == (b"ab", body, b"c", body)
    assert chunks.parts[1] is body
    assert chunks.parts[3] is body


def test_nothing_is_no_part() -> None:
    assert Chunks([]).parts == ()
