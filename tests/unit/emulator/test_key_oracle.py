"""What Ethereum says of one node's part in key management: asked, replied to, aborted, doubled."""

from __future__ import annotations

import pytest

from kmsconn.emulator.contracts.ceremonies import FIRST_PREDECESSOR, announce
from kmsconn.emulator.generation_hashes import named_pair, prep_keygen_hash
from kmsconn.emulator.key_life import CRS, PREP, announcement_of
from kmsconn.emulator.key_oracle import KeyVerdict, read_keys
from kmsconn.emulator.neighbourhood import CONTEXT, EPOCH, Neighbourhood
from kmsconn.emulator.neighbours import sender_of, signer_of
from kmsconn.ethereum.eip712 import signing_digest
from kmsconn.protocols.fhevm_014.keygen import PREP_RESPONSE

ASKED = ("prepKeygenResponse", PREP)


@pytest.fixture
def neighbours() -> Neighbourhood:
    return Neighbourhood.make(lambda: 1_767_225_600.0)


def ask_key(neighbours: Neighbourhood) -> None:
    contract = neighbours.kms_generation
    neighbours.ethereum.act(contract.address, contract.request_keygen)
    neighbours.ethereum.mine()


def reply(neighbours: Neighbourhood, sender: int = 0) -> None:
    contract = neighbours.kms_generation
    struct_hash = prep_keygen_hash(PREP, named_pair(CONTEXT, EPOCH))
    signature = signer_of(0).sign(signing_digest(contract.domain, struct_hash))
    calldata = PREP_RESPONSE.encode(PREP, signature)
    neighbours.ethereum.transact(sender_of(sender).address, contract.address, calldata)
    neighbours.ethereum.mine()


def verdict(neighbours: Neighbourhood) -> KeyVerdict:
    return read_keys(neighbours, neighbours.sender.address)


def test_nothing_asked_is_nothing_open(neighbours: Neighbourhood) -> None:
    assert verdict(neighbours) == KeyVerdict((), (), frozenset(), 0)
    assert verdict(neighbours).well


def test_what_was_asked_is_open_until_this_node_replied(neighbours: Neighbourhood) -> None:
    ask_key(neighbours)
    assert verdict(neighbours).open == (ASKED,)
    reply(neighbours)
    assert verdict(neighbours).replied == (ASKED,)
    assert verdict(neighbours).open == (
        ("keygenResponse", PREP + (1 << 248)),
    )  # the preparation asks for the key


def test_a_reply_of_another_wallet_counts_for_nothing(neighbours: Neighbourhood) -> None:
    ask_key(neighbours)
    reply(neighbours, sender=1)
    assert (verdict(neighbours).open, verdict(neighbours).doubled) == ((ASKED,), 0)


def test_a_second_transaction_for_the_same_is_a_double_whatever_its_status(neighbours: Neighbourhood) -> None:
    ask_key(neighbours)
    reply(neighbours)
    reply(neighbours)
    assert (verdict(neighbours).replied, verdict(neighbours).doubled) == ((ASKED,), 1)
    assert not verdict(neighbours).well


def test_what_was_aborted_waits_for_nobody(neighbours: Neighbourhood) -> None:
    contract = neighbours.kms_generation
    neighbours.ethereum.act(contract.address, contract.request_crsgen)
    neighbours.ethereum.act(contract.address, lambda frame: contract.abort_crsgen(frame, CRS))
    neighbours.ethereum.mine()
    assert verdict(neighbours).aborted == {("crsgenResponse", CRS)}
    assert verdict(neighbours).well


def test_a_new_context_is_asked_of_every_node_and_an_announcement_of_the_first_is_not(
    neighbours: Neighbourhood,
) -> None:
    contract, nodes = neighbours.protocol_config, announcement_of(neighbours.committee)
    neighbours.ethereum.act(
        contract.address, lambda frame: announce(frame, CONTEXT, FIRST_PREDECESSOR, nodes)
    )
    neighbours.ethereum.act(contract.address, lambda frame: contract.begin_context(frame, nodes))
    neighbours.ethereum.mine()
    assert verdict(neighbours).open == (("confirmKmsContextCreation", CONTEXT + 1),)
