"""The emulated Core against the golden answers: every byte of every response, shares and internal signature included."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import UserDecryptionResponse
from kmsconn.emulator.core import PUBLIC, USER, EmulatedCore
from kmsconn.emulator.core_answers import SigningNode
from kmsconn.emulator.core_requests import Job
from kmsconn.emulator.signcryption import Randomness
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from tests import vectors
from tests.opening import open_share, value_of_share

ANSWERS = vectors.answers()
NAMES = [f"{entry['name']}-node{answer['node']}" for entry, answer in ANSWERS]
PLAINTEXTS = {
    from_hex(each["body"]): int(each["plaintext_value"], 16) for each in vectors.load()["ciphertexts"]
}


def node_of(answer: dict[str, Any]) -> SigningNode:
    key = PrivateKey.parse(vectors.load()["environment"]["keys"][f"signer{answer['node']}"]["private_key"])
    payload = answer["response"]["payload"]
    return SigningNode(key, payload.get("party_id", 1), payload.get("degree", 0))


def core_of(answer: dict[str, Any]) -> EmulatedCore:
    """The node of an answer, sealing with the randomness that the vectors name."""
    given = [
        Randomness(from_hex(each["encapsulation_m"]), from_hex(each["nonce"]))
        for each in answer.get("signcryption_randomness", ())
    ]

    def sealing(_: Job, place: int) -> Randomness:
        return given[place]

    core = EmulatedCore(node_of(answer), PLAINTEXTS, sealing=sealing)
    core.known.contexts.add(make_id(CONTEXT_TAG, 2).to_bytes(32))
    core.known.epochs.add(make_id(EPOCH_TAG, 2).to_bytes(32))
    return core


@pytest.mark.parametrize(("entry", "answer"), ANSWERS, ids=NAMES)
async def test_a_response_is_made_again_byte_for_byte(entry: dict[str, Any], answer: dict[str, Any]) -> None:
    core, operation = core_of(answer), PUBLIC if entry["kind"] == "public" else USER
    assert await core.start(operation, from_hex(entry["core"]["request_bytes"])) == b""
    reply = await core.result(operation, from_hex(entry["core"]["poll_bytes"]))
    assert reply.hex() == answer["response_bytes"][2:]


@pytest.mark.parametrize(
    ("entry", "answer"), [pair for pair in ANSWERS if pair[0]["kind"] == "user"], ids=lambda each: ""
)
def test_the_user_opens_every_share_of_the_vectors(entry: dict[str, Any], answer: dict[str, Any]) -> None:
    message = UserDecryptionResponse.parse(from_hex(answer["response_bytes"]))
    assert message.payload is not None
    secret_key = from_hex(vectors.load()["user_key"]["client_secret_key_blob"])[8:]
    client = parse_address(entry["core"]["request"]["client_address"])
    by_handle = {
        from_hex(each["handle"]): int(each["plaintext_value"], 16) for each in vectors.load()["ciphertexts"]
    }
    for share in message.payload.signcrypted_ciphertexts:
        opened = open_share(
            secret_key, share.signcrypted_ciphertext, client=client, vk=message.payload.verification_key
        )
        assert opened.link == message.payload.digest
        value = value_of_share(opened.plaintext) if message.payload.degree else _number(opened.plaintext)
        assert value == by_handle[share.external_handle]


def test_no_vector_was_left_out() -> None:
    assert len(ANSWERS) == 34


def _number(plaintext: bytes) -> int:
    return int.from_bytes(plaintext, "little")
