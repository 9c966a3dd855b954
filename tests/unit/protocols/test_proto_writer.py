"""The encoder of generated messages: the format's own examples, presence, and large values that are not copied."""

from __future__ import annotations

from dataclasses import dataclass

import betterproto2
import pytest

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn._generated.httpz_rc7.kms.v1 import KeyGenResult
from kmsconn.protocols.proto_writer import SPLICED, encode, splice, varint


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


def test_the_ciphertexts_of_a_request_are_not_copied() -> None:
    bodies = [bytes([number]) * SPLICED for number in (1, 2)]
    request = kms.PublicDecryptionRequest(ciphertexts=[kms.TypedCiphertext(body) for body in bodies])
    chunks = encode(request)
    assert [part for part in chunks.parts if len(part) >= SPLICED] == bodies
    assert all(any(part is body for part in chunks.parts) for body in bodies)
    assert bytes(chunks) == bytes(request)
    assert chunks.size == len(bytes(chunks))


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
