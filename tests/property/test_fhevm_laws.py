"""Laws of the 0.14 encodings: round trips, strictness, and one kind of error for foreign bytes."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from kmsconn._generated.fhevm.kms.v1 import (
    PublicDecryptionRequest,
    PublicDecryptionResponse,
    PublicDecryptionResponsePayload,
    RequestId,
    TypedPlaintext,
    UserDecryptionRequest,
)
from kmsconn.errors import Broken, Misconfigured, NotYet, Rejected, Undecodable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.ids import id_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols import bincode
from kmsconn.protocols.fhevm import decryptions, user_decryption
from kmsconn.protocols.fhevm.decryptions import PublicDecryption, decrypted_result, public_digest
from kmsconn.protocols.fhevm.operations import build_extra_data, normalise_extra_data, parse_extra_data
from kmsconn.protocols.fhevm.profile import EVENTS, Fhevm
from kmsconn.protocols.fhevm.user_decryption import HandleEntry, LegacyUserDecryption, UnifiedUserDecryption
from kmsconn.protocols.port import Facts, Verdict
from tests import vectors

PROFILE = Fhevm(vectors.vector_settings())
DOMAIN = PROFILE.deployment.decryption
LOG = vectors.log_of(vectors.request("public_one_v0"))
IDS = st.integers(1, 2**256 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)
BYTES32 = st.binary(min_size=32, max_size=32)
SHORT = st.binary(max_size=70)
REFERENCES = st.lists(
    st.builds(CiphertextReference, BYTES32, IDS, BYTES32, st.lists(ADDRESSES, max_size=3).map(tuple)),
    max_size=4,
).map(tuple)
EXTRA = st.one_of(SHORT, st.builds(build_extra_data, IDS, st.none() | IDS))

PUBLIC = st.builds(PublicDecryption, IDS, REFERENCES, EXTRA)
LEGACY = st.builds(LegacyUserDecryption, IDS, REFERENCES, ADDRESSES, SHORT, EXTRA)
UNIFIED = st.builds(
    UnifiedUserDecryption,
    id=IDS,
    references=REFERENCES,
    handles=st.lists(st.builds(HandleEntry, BYTES32, ADDRESSES, ADDRESSES), max_size=3).map(tuple),
    user=ADDRESSES,
    public_key=SHORT,
    allowed_contracts=st.lists(ADDRESSES, max_size=3).map(tuple),
    start=IDS,
    duration=IDS,
    extra_data=EXTRA,
    signature=SHORT,
)
CONTENTS: st.SearchStrategy[Any] = st.one_of(PUBLIC, LEGACY, UNIFIED)


def plain(values: Any) -> Any:
    return tuple(attrs.astuple(value, recurse=False) for value in values)


def log_of(content: Any, *, later: bool = False) -> Any:
    """Return the log that the contract would emit for a content; a later one names the handles only."""
    materials = tuple(one.handle for one in content.references) if later else plain(content.references)
    if isinstance(content, PublicDecryption):
        event = decryptions.LATER_EVENT if later else decryptions.EVENT
        values: tuple[Any, ...] = (materials, content.extra_data)
    elif isinstance(content, LegacyUserDecryption):
        event = user_decryption.LATER_LEGACY if later else user_decryption.LEGACY
        values = (materials, content.user, content.public_key, content.extra_data)
    else:
        validity = (content.start, content.duration)
        head = (content.user, content.public_key, content.allowed_contracts, validity)
        payload = (*head, content.extra_data, content.signature)
        event = user_decryption.LATER_UNIFIED if later else user_decryption.UNIFIED
        values = (*(() if later else (materials,)), plain(content.handles), payload)
    topics, data = event.encode(content.id, *values)
    return attrs.evolve(LOG, topics=topics, data=data)


later_log_of = partial(log_of, later=True)


@given(CONTENTS)
def test_what_the_contract_emits_is_what_is_read(content: Any) -> None:
    assert EVENTS.decode(log_of(content)) == content


@given(CONTENTS, CONTENTS)
def test_the_digest_tells_contents_apart_by_what_both_forms_say(one: Any, other: Any) -> None:
    equal = EVENTS.digest(log_of(one)) == EVENTS.digest(log_of(other))
    assert equal == (EVENTS.decode(later_log_of(one)) == EVENTS.decode(later_log_of(other)))


@given(CONTENTS)
def test_both_forms_of_a_request_are_one_content(content: Any) -> None:
    assert EVENTS.digest(log_of(content)) == EVENTS.digest(later_log_of(content))


@given(CONTENTS)
def test_the_later_form_says_all_but_the_materials(content: Any) -> None:
    found: Any = EVENTS.decode(later_log_of(content))
    assert attrs.evolve(found, references=content.references) == content
    assert all(reference.is_bare for reference in found.references)


@given(st.sampled_from([(), *((topic, bytes(32)) for topic in EVENTS.kinds)]), st.binary(max_size=400))
def test_foreign_logs_are_undecodable(topics: tuple[bytes, ...], data: bytes) -> None:
    try:
        EVENTS.decode(attrs.evolve(LOG, topics=topics, data=data))
    except Undecodable:
        return


@given(CONTENTS, st.floats(0, 2e9), st.floats(0, 1e6), st.binary(max_size=300))
def test_checks_raise_nothing_but_their_errors(
    content: Any, time: float, age: float, calldata: bytes
) -> None:
    facts = Facts(time, age, vectors.vector_settings().protocol.decryption_contract.address, calldata)
    try:
        questions = PROFILE.operations[content.kind].checks(content, facts)
    except (Rejected, NotYet, Misconfigured):
        return
    assert questions


@given(st.binary(max_size=80))
def test_extra_data_is_read_or_rejected(raw: bytes) -> None:
    try:
        context_id, epoch_id = parse_extra_data(raw)
    except Rejected:
        return
    assert raw.startswith(build_extra_data(context_id, epoch_id)) or raw[0] == 0


@given(st.none() | IDS, st.none() | IDS)
def test_extra_data_round_trip(context_id: int | None, epoch_id: int | None) -> None:
    epoch = epoch_id if context_id is not None else None
    assert parse_extra_data(build_extra_data(context_id, epoch)) == (context_id, epoch)


@given(SHORT)
def test_normalising_twice_is_normalising_once(raw: bytes) -> None:
    assert normalise_extra_data(normalise_extra_data(raw)) == normalise_extra_data(raw)


def under_one_key(references: tuple[CiphertextReference, ...]) -> tuple[CiphertextReference, ...]:
    return tuple(attrs.evolve(one, key_id=references[0].key_id) for one in references)


BODIES = st.one_of(st.binary(max_size=50), st.integers(16_000, 17_000).map(bytes))


@given(CONTENTS.filter(lambda content: content.references), st.none() | IDS, st.none() | IDS, st.data())
def test_start_requests_are_canonical_protobuf(
    content: Any, context_id: int | None, epoch_id: int | None, data: st.DataObject
) -> None:
    ciphertexts = [
        Ciphertext(reference.handle, data.draw(BODIES), data.draw(st.integers(0, 3)))
        for reference in content.references
    ]
    named = build_extra_data(context_id, epoch_id if context_id else None)
    content = attrs.evolve(content, extra_data=named, references=under_one_key(content.references))
    call = PROFILE.operations[content.kind].start_calls(content, ciphertexts)[0]
    public = isinstance(content, PublicDecryption)
    message: Any = (PublicDecryptionRequest if public else UserDecryptionRequest).parse(bytes(call.message))
    assert bytes(message) == bytes(call.message)
    assert message.request_id.request_id == id_hex(content.id)
    entries = message.ciphertexts if public else message.typed_ciphertexts
    assert [(e.external_handle, e.ciphertext) for e in entries] == [(c.handle, c.body) for c in ciphertexts]
    assert public or message.client_address == checksum(content.user)


SHARES = st.builds(bincode.Share, st.integers(-(2**31), 2**31 - 1), SHORT, SHORT, st.integers(0, 2**32 - 1))
PAYLOADS = st.builds(
    bincode.SharePayload,
    SHORT,
    SHORT,
    st.lists(SHARES, max_size=4).map(tuple),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)


@given(PAYLOADS)
def test_bincode_round_trip(payload: bincode.SharePayload) -> None:
    assert bincode.decode(bincode.encode(payload)) == payload


@given(st.binary(max_size=200))
def test_bincode_has_one_image_only(raw: bytes) -> None:
    try:
        payload = bincode.decode(raw)
    except Undecodable:
        return
    assert bincode.encode(payload) == raw


VALUES = st.tuples(st.sampled_from([0, 2, 3, 4, 5, 6, 7, 8]), st.binary(max_size=32))


@given(st.lists(VALUES, max_size=5))
def test_words_hold_the_little_endian_values(plaintexts: list[tuple[int, bytes]]) -> None:
    result = decrypted_result(plaintexts)
    words = [int.from_bytes(result[at : at + 32]) for at in range(0, len(result), 32)]
    assert words == [int.from_bytes(plaintext, "little") for _, plaintext in plaintexts]


@given(PUBLIC, st.data())
def test_an_honest_answer_becomes_a_reply_that_names_its_signer(content: Any, data: st.DataObject) -> None:
    key = PrivateKey(data.draw(st.integers(1, 2**255)).to_bytes(32))
    plaintexts = [data.draw(VALUES) for _ in content.references]
    handles = [reference.handle for reference in content.references]
    echoed, result = normalise_extra_data(content.extra_data), decrypted_result(plaintexts)
    digest = public_digest(DOMAIN, handles, result, echoed)
    reply = PublicDecryptionResponse(
        external_signature=key.sign(digest),
        payload=PublicDecryptionResponsePayload(
            plaintexts=[TypedPlaintext(value, kind) for kind, value in plaintexts],
            request_id=RequestId(id_hex(content.id)),
        ),
        extra_data=echoed,
    )
    answer = PROFILE.operations[content.kind].read_answer(content, bytes(reply), None)
    assert answer is not None
    assert answer.signer == key.address
    expected = (content.id, result, reply.external_signature, echoed)
    assert decryptions.RESPONSE.decode(answer.calldata) == expected


@given(CONTENTS, st.binary(max_size=200))
def test_foreign_answers_are_broken(content: Any, reply: bytes) -> None:
    try:
        PROFILE.operations[content.kind].read_answer(content, reply, None)
    except Broken:
        return


@given(st.sampled_from(sorted(PROFILE.operations)), st.none() | st.binary(max_size=150))
def test_every_revert_has_a_verdict(kind: Kind, data: bytes | None) -> None:
    found = PROFILE.operations[kind].revert(data)
    assert found.verdict in Verdict
    assert str(found).isprintable()
