"""Laws of the strict decoder, with the reference implementation of protobuf as a judge, and of the encoder, with betterproto2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import betterproto2
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from kmsconn._generated.fhevm.kms import v1
from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import LENGTH, decode, encode, varint

BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
UINT32 = descriptor_pb2.FieldDescriptorProto.TYPE_UINT32
INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE

shares = st.builds(
    v1.TypedSigncryptedCiphertext,
    fhe_type=st.integers(-(2**31), 2**31 - 1),
    signcrypted_ciphertext=st.binary(max_size=40),
    external_handle=st.binary(max_size=32),
    packing_factor=st.integers(0, 2**32 - 1),
)
payloads = st.builds(
    v1.UserDecryptionResponsePayload,
    verification_key=st.binary(max_size=41),
    digest=st.binary(max_size=32),
    signcrypted_ciphertexts=st.lists(shares, max_size=3),
    party_id=st.integers(0, 2**32 - 1),
    degree=st.integers(0, 2**32 - 1),
)

ids = st.none() | st.builds(v1.RequestId, st.text(max_size=3))
nodes = st.builds(
    v1.MpcNode,
    mpc_identity=st.text(max_size=3),
    party_id=st.integers(-(2**31), 2**31 - 1),
    signer_address=st.none() | st.binary(max_size=20),
    ca_cert=st.none() | st.binary(max_size=3),
    public_storage_prefix=st.none() | st.text(max_size=3),
    extra_signer_addresses=st.lists(st.binary(max_size=20), max_size=2),
)
contexts = st.builds(v1.MpcContext, mpc_nodes=st.lists(nodes, max_size=3), context_id=ids)
ciphertexts = st.builds(
    v1.TypedCiphertext,
    ciphertext=st.integers(0, 40_000).map(bytes),
    fhe_type=st.integers(0, 255),
    external_handle=st.binary(max_size=32),
    ciphertext_format=st.sampled_from(v1.CiphertextFormat),
)
to_the_core = st.one_of(
    st.builds(v1.NewMpcContextRequest, st.none() | contexts),
    st.builds(v1.CrsGenRequest, request_id=ids, max_num_bits=st.none() | st.integers(0, 2**32 - 1)),
    st.builds(
        v1.PublicDecryptionRequest,
        request_id=ids,
        ciphertexts=st.lists(ciphertexts, max_size=3),
        extra_data=st.binary(max_size=3),
        context_id=ids,
    ),
)


def reference() -> type[Message]:
    """Build the same payload for google.protobuf, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="judge.proto", package="judge", syntax="proto3")
    share = file.message_type.add(name="Share")
    for number, (name, kind) in enumerate([("t", INT32), ("c", BYTES), ("h", BYTES), ("p", UINT32)], 1):
        share.field.add(name=name, number=number, type=kind, label=1)
    payload = file.message_type.add(name="Payload")
    for number, name in enumerate(["v", "d"], 1):
        payload.field.add(name=name, number=number, type=BYTES, label=1)
    payload.field.add(name="s", number=3, type=MESSAGE, type_name=".judge.Share", label=3)
    for number, name in enumerate(["i", "e"], 4):
        payload.field.add(name=name, number=number, type=UINT32, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("judge.Payload"))
    return made


JUDGE = reference()


@given(payloads)
def test_what_is_encoded_is_decoded(message: v1.UserDecryptionResponsePayload) -> None:
    assert decode(v1.UserDecryptionResponsePayload, bytes(message)) == message


@given(to_the_core | payloads)
def test_a_message_is_written_as_the_library_writes_it(message: betterproto2.Message) -> None:
    chunks = encode(message)
    assert bytes(chunks) == bytes(message)
    assert chunks.size == len(bytes(message))


@given(payloads, st.data())
def test_a_truncation_is_refused_wherever_the_judge_refuses_it(
    message: v1.UserDecryptionResponsePayload, data: st.DataObject
) -> None:
    whole = bytes(message)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        judged = JUDGE.FromString(cut)
    except DecodeError:
        with pytest.raises(Undecodable):
            decode(v1.UserDecryptionResponsePayload, cut)
        return
    ours = decode(v1.UserDecryptionResponsePayload, cut)
    assert (ours.verification_key, ours.digest, ours.party_id, ours.degree) == (
        judged.v,
        judged.d,
        judged.i,
        judged.e,
    )
    assert len(ours.signcrypted_ciphertexts) == len(judged.s)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_decoded_or_undecodable_and_never_laxer_than_the_judge(data: bytes) -> None:
    try:
        decode(v1.UserDecryptionResponsePayload, data)
    except Undecodable:
        return
    JUDGE.FromString(data)


@given(payloads, st.data())
def test_one_changed_byte_never_crashes_and_is_never_taken_against_the_judge(
    message: v1.UserDecryptionResponsePayload, data: st.DataObject
) -> None:
    changed = bytearray(bytes(message) or b"\0")
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        ours = decode(v1.UserDecryptionResponsePayload, bytes(changed))
    except Undecodable:
        return
    judged = JUDGE.FromString(bytes(changed))
    assert (ours.verification_key, ours.digest, ours.party_id, ours.degree) == (
        judged.v,
        judged.d,
        judged.i,
        judged.e,
    )
    assert [share.signcrypted_ciphertext for share in ours.signcrypted_ciphertexts] == [
        share.c for share in judged.s
    ]


@given(payloads, st.integers(100, 2**29 - 1), st.binary(max_size=20))
def test_an_unknown_field_changes_nothing(
    message: v1.UserDecryptionResponsePayload, number: int, value: bytes
) -> None:
    key = (number << 3) | 2
    encoded = bytearray()
    while key > 0x7F:
        encoded.append(key & 0x7F | 0x80)
        key >>= 7
    unknown = bytes([*encoded, key, len(value)]) + value
    assert decode(v1.UserDecryptionResponsePayload, unknown + bytes(message) + unknown) == message


# The message is made in the walk where its fields are plain; the library, on bytes that the walk took, is the judge of that.


@dataclass(eq=False, repr=False)
class Plain(betterproto2.Message):
    """Every kind of field that is read without the library."""

    small: int = betterproto2.field(1, betterproto2.TYPE_INT32)
    large: int = betterproto2.field(2, betterproto2.TYPE_INT64)
    size: int = betterproto2.field(3, betterproto2.TYPE_UINT32)
    count: int = betterproto2.field(4, betterproto2.TYPE_UINT64)
    yes: bool = betterproto2.field(5, betterproto2.TYPE_BOOL)
    maybe: int | None = betterproto2.field(6, betterproto2.TYPE_INT32, optional=True)
    many: list[int] = betterproto2.field(7, betterproto2.TYPE_INT32, repeated=True)  # noqa: RUF009
    flags: list[bool] = betterproto2.field(8, betterproto2.TYPE_BOOL, repeated=True)  # noqa: RUF009
    raw: bytes = betterproto2.field(9, betterproto2.TYPE_BYTES)
    text: str = betterproto2.field(10, betterproto2.TYPE_STRING)
    texts: list[str] = betterproto2.field(11, betterproto2.TYPE_STRING, repeated=True)  # noqa: RUF009
    below: list[v1.TypedSigncryptedCiphertext] = betterproto2.field(  # noqa: RUF009
        12, betterproto2.TYPE_MESSAGE, repeated=True
    )
    answer: v1.UserDecryptionResponse | None = betterproto2.field(13, betterproto2.TYPE_MESSAGE)  # noqa: RUF009


def framed(field: int, content: bytes) -> bytes:
    return varint(field << 3 | LENGTH) + varint(len(content)) + content


wide = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]))
numbers = st.builds(
    lambda field, value: varint(field << 3) + varint(value),
    st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 99]),
    wide,
)
packed = st.builds(
    lambda field, values: framed(field, b"".join(map(varint, values))),
    st.sampled_from([7, 8]),
    st.lists(wide, max_size=4),
)
answers = st.builds(
    v1.UserDecryptionResponse,
    external_signature=st.binary(max_size=9),
    extra_data=st.binary(max_size=3),
    payload=st.none() | payloads,
)
lengths = st.one_of(
    st.tuples(st.just(9), st.binary(max_size=9)),
    st.tuples(st.sampled_from([10, 11]), st.text(max_size=5).map(str.encode)),
    st.tuples(st.just(12), shares.map(bytes)),
    st.tuples(st.just(98), st.binary(max_size=5)),
).map(lambda field: framed(*field))


@given(st.lists(st.one_of(numbers, packed, lengths), max_size=12), st.none() | answers)
def test_plain_messages_are_made_as_the_library_makes_them(
    fields: list[bytes], answer: v1.UserDecryptionResponse | None
) -> None:
    """In any order, any number of times, with unknown fields between and numbers that are too wide."""
    last = [] if answer is None else [framed(13, bytes(answer))]
    data = b"".join(fields + last)
    ours, judged = decode(Plain, data), Plain.parse(data)
    assert ours == judged
    assert repr(ours) == repr(judged)


@given(st.binary(max_size=60))
def test_what_is_taken_of_any_bytes_is_what_the_library_takes(data: bytes) -> None:
    try:
        ours = decode(v1.UserDecryptionResponse, data)
    except Undecodable:
        return
    assert ours == v1.UserDecryptionResponse.parse(data)
