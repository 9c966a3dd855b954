"""The messages of 0.15 and 0.16: the vectors read and written, and which signature of an answer is taken."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.emulator.core_keys import LINKER_TYPE
from kmsconn.errors import Broken
from kmsconn.ethereum.abi import Domain, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.life import Answer
from kmsconn.protocols.core_messages import signature_of
from kmsconn.protocols.fhevm.contexts import ContextDestroyed, ContextNode, NewContext
from kmsconn.protocols.fhevm.epochs import EpochDestroyed, EpochMaterial, KeyMaterial, NewEpoch, NewEpochs
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.protobuf import decode, encode
from tests import vectors
from tests.vectors import keys, later

ECDSA, ED25519, UNKNOWN = 0, 1, 250
ONE, OTHER = PrivateKey(bytes(31) + b"\1").sign(bytes(32)), PrivateKey(bytes(31) + b"\2").sign(bytes(32))
CONTEXT, EPOCH = (int(vectors.load_later()["ids"][name], 16) for name in ("context", "epoch"))
PROFILE = keys.PROFILE


def typed(scheme: int, signature: bytes) -> kms.TypedSignature:
    return kms.TypedSignature(kms.SigningSchemeType(scheme), signature)


def answer(external: bytes = b"", *signatures: kms.TypedSignature) -> kms.KeyGenPreprocResult:
    """Return an answer as it comes off the wire."""
    made = kms.KeyGenPreprocResult(external_signature=external, signatures=list(signatures))
    return decode(kms.KeyGenPreprocResult, bytes(made))


# The vectors.


@pytest.mark.parametrize("name", later.messages())
def test_a_message_of_the_vectors_is_written_and_read_and_nothing_of_it_is_lost(name: str) -> None:
    expected = later.kind_of(name).from_dict(later.messages()[name]["fields"])
    message = decode(later.kind_of(name), later.wire(name))
    assert message == expected
    assert bytes(encode(expected)) == bytes(encode(message)) == later.wire(name)


@pytest.mark.parametrize(
    ("name", "case", "struct"),
    [
        ("prep-keygen result fresh", "fresh", "PrepKeygenVerification"),
        ("keygen result fresh", "fresh", "KeygenVerification"),
        ("prep-keygen result migration", "migration", "PrepKeygenVerification"),
        ("keygen result migration", "migration", "KeygenVerification"),
        ("keygen result as in 0.16 (inferred)", "fresh", "KeygenVerification"),
        ("keygen result with two schemes", "fresh", "KeygenVerification"),
    ],
)
def test_the_signature_of_an_answer_of_the_vectors(name: str, case: str, struct: str) -> None:
    [signed] = [
        one
        for one in vectors.load_later()["eip712"]["cases"]
        if (one["case"], one["primary_type"]) == (case, struct)
    ]
    assert signature_of(decode(later.kind_of(name), later.wire(name))) == from_hex(signed["signature"])


@pytest.mark.parametrize(
    "name", ["public decryption response, signatures only", "user decryption response, signatures only"]
)
def test_the_signature_of_a_decryption_of_the_vectors(name: str) -> None:
    assert signature_of(decode(later.kind_of(name), later.wire(name))) == b"f" * 65


# The choice.


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(answer(ONE), ONE, id="0.14"),
        pytest.param(answer(ONE, typed(ECDSA, ONE)), ONE, id="0.15"),
        pytest.param(answer(b"", typed(ECDSA, ONE)), ONE, id="0.16"),
        pytest.param(answer(ONE, typed(ED25519, OTHER)), ONE, id="0.15, and ECDSA is not in the list"),
        pytest.param(answer(b"", typed(UNKNOWN, OTHER), typed(ED25519, OTHER), typed(ECDSA, ONE)), ONE, id="third"),
        pytest.param(answer(b"", typed(ECDSA, ONE), typed(ECDSA, OTHER)), ONE, id="the first of two"),
    ],
)  # fmt: skip
def test_the_first_ecdsa_signature_is_taken_or_else_the_old_field(
    message: kms.KeyGenPreprocResult, expected: bytes
) -> None:
    assert signature_of(message) == expected


@pytest.mark.parametrize(
    ("message", "told"),
    [
        # both are of the right form; which one the contract would take is not guessed
        pytest.param(answer(OTHER, typed(ECDSA, ONE)), "signatures and external_signature differ", id="two that differ"),
        pytest.param(answer(ONE, typed(ECDSA, b"")), "differ", id="an empty entry beside the old field"),
        pytest.param(answer(), "no ECDSA signature", id="nothing"),
        pytest.param(answer(b"", typed(ED25519, ONE), typed(UNKNOWN, ONE)), "no ECDSA signature", id="other schemes alone"),
        pytest.param(answer(b"", typed(ECDSA, b"")), "no ECDSA signature", id="an empty one"),
    ],
)  # fmt: skip
def test_an_answer_without_one_ecdsa_signature_is_broken(message: kms.KeyGenPreprocResult, told: str) -> None:
    with pytest.raises(Broken, match=told) as caught:
        signature_of(message)
    assert bool(caught.value.remedy) == ("differ" in told)


# Every kind of answer, as releases of the Core give it.


def as_in_0_15(message: Any) -> None:
    message.signatures = [typed(ED25519, b"x" * 64), typed(ECDSA, message.external_signature)]


def as_in_0_16(message: Any) -> None:
    as_in_0_15(message)
    message.external_signature = b""


def doubtful(message: Any) -> None:
    as_in_0_15(message)
    message.external_signature = OTHER


DECRYPTIONS: dict[str, Any] = {
    "PublicDecrypt": (vectors.requests("public")[0], kms.PublicDecryptionResponse),
    "UserDecrypt": (vectors.requests("unified")[0], kms.UserDecryptionResponse),
}
KEY_ANSWERS: dict[str, Any] = {
    "prep_keygen_default": kms.KeyGenPreprocResult,
    "keygen_default": kms.KeyGenResult,
    "crsgen_test_2048": kms.CrsGenResult,
    "epoch_2_context_switch": kms.EpochResultResponse,
}


def signed_parts(message: Any) -> list[Any]:
    """Return the parts of an answer that bear signatures."""
    if isinstance(message, kms.EpochResultResponse):
        return [*message.reshare_responses, *message.crs_responses]
    return [message]


def read(name: str, change: Any) -> tuple[Answer, Answer]:
    """Return what a recorded answer comes to, and what it comes to after a change of each signed part."""
    content: Any
    if name in DECRYPTIONS:
        entry, kind = DECRYPTIONS[name]
        profile = Fhevm(vectors.vector_settings())
        content = profile.decode(vectors.log_of(entry))
    else:
        entry, kind, profile, content = keys.event(name), KEY_ANSWERS[name], PROFILE, keys.content(name)
    recorded = from_hex(entry["answers"][0]["response_bytes"])
    message: Any = decode(kind, recorded)
    for part in signed_parts(message):
        change(part)
    operation = profile.operations[content.kind]
    found = [operation.read_answer(content, reply, None) for reply in (recorded, bytes(message))]
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


every_answer = pytest.mark.parametrize("name", [*DECRYPTIONS, *KEY_ANSWERS])


@every_answer
@pytest.mark.parametrize("release", [as_in_0_15, as_in_0_16])
def test_the_reply_is_the_same_from_every_release(name: str, release: Any) -> None:
    recorded, found = read(name, release)
    assert found == recorded


@every_answer
def test_no_kind_of_answer_is_taken_without_signature_or_whose_signatures_differ(name: str) -> None:
    with pytest.raises(Broken, match="differ"):
        read(name, doubtful)
    with pytest.raises(Broken, match="no ECDSA signature"):
        read(name, lambda message: setattr(message, "external_signature", b""))


# Contexts, epochs and their ends.


def test_a_node_of_a_context_is_that_of_the_vectors() -> None:
    """But for its certificate: an empty one is left out, since Cores refuse it."""
    expected = decode(kms.MpcNode, later.wire("context node"))
    assert expected.signer_address is not None
    node = ContextNode(
        tx_sender=Address(expected.extra_signer_addresses[0]),
        signer=Address(expected.signer_address),
        ip_address=expected.external_url,
        storage_url=expected.public_storage_url,
        party_id=expected.party_id,
        mpc_identity=expected.mpc_identity,
        ca_cert=b"",
        storage_prefix=expected.public_storage_prefix or "",
    )
    content = NewContext(CONTEXT, CONTEXT, (node,), 0, "", ())
    [call] = PROFILE.operations[content.kind].start_calls(content, None)
    told = decode(kms.NewMpcContextRequest, bytes(call.message)).new_context
    assert told is not None
    empty, expected.ca_cert = expected.ca_cert, None
    assert (told.mpc_nodes, empty) == ([expected], b"")


def test_the_end_of_a_context_begins_with_the_bytes_of_the_vectors() -> None:
    """Behind them stand the epochs that a Core of 0.14 must be told of, and a later one skips."""
    content = ContextDestroyed(CONTEXT)
    [call] = PROFILE.operations[content.kind].start_calls(content, (EPOCH,))
    [bare] = PROFILE.operations[content.kind].start_calls(content, ())
    assert (call.method, call.shard) == ("DestroyMpcContext", None)
    assert bytes(bare.message) == later.wire("destroy context")
    assert bytes(call.message) == later.wire("destroy context") + b"\x12\x42" + bytes(
        kms.RequestId(f"{EPOCH:064x}")
    )


def test_the_end_of_an_epoch_is_that_of_the_vectors() -> None:
    content = EpochDestroyed(EPOCH)
    [call] = PROFILE.operations[content.kind].start_calls(content, None)
    assert (call.method, call.shard) == ("DestroyMpcEpoch", None)
    assert bytes(call.message) == later.wire("destroy epoch")


def test_a_new_epoch_with_a_migrated_key_is_that_of_the_vectors() -> None:
    expected = decode(kms.NewMpcEpochRequest, later.wire("previous epoch with a migrated key"))
    assert expected.previous_epoch is not None
    assert expected.domain is not None
    [key] = expected.previous_epoch.keys_info
    numbers = {"ServerKey": 0, "PublicKey": 1, "CompressedXofKeySet": 3}
    digests = tuple((numbers[one.key_type], one.digest) for one in key.key_digests)
    found = EpochMaterial((KeyMaterial(3 << 248 | 1, 4 << 248 | 1, 0, digests),), ())
    content = NewEpoch(CONTEXT, EPOCH + 1, CONTEXT, EPOCH, 0)
    contract = Address(from_hex(expected.domain.verifying_contract))
    domain = Domain("ProtocolConfig", "1", int.from_bytes(expected.domain.chain_id), contract)
    deployment = attrs.evolve(PROFILE.deployment, config=domain)
    [call] = NewEpochs(deployment).start_calls(content, found)
    assert bytes(call.message) == later.wire("previous epoch with a migrated key")


# What ties a share to its request: the Core's side, which the emulator plays.


def test_the_link_of_a_user_s_answer_is_that_of_the_vectors() -> None:
    links = vectors.load_later()["user_links"]
    evm, domain = links["evm"], links["domain"]
    assert evm["encode_type"] == LINKER_TYPE
    key = bytes(number % 256 for number in range(800))
    handles = [from_hex(handle) for handle in evm["handles"]]
    struct = hash_struct(LINKER_TYPE, key, handles, Address(from_hex(evm["user"])))
    where = Domain(
        domain["name"], domain["version"], domain["chainId"], Address(from_hex(domain["verifyingContract"]))
    )
    assert signing_digest(where, struct) == from_hex(evm["link"])
