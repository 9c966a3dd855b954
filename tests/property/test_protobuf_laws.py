"""Laws of the strict decoder, with the reference implementation of protobuf as a judge."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from kmsconn._generated.fhevm_014.kms import v1
from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import decode

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
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("judge.Payload"))


JUDGE = reference()


@given(payloads)
def test_what_is_encoded_is_decoded(message: v1.UserDecryptionResponsePayload) -> None:
    assert decode(v1.UserDecryptionResponsePayload, bytes(message)) == message


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
