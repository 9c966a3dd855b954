"""What Ethereum says of one node's part in key management: asked, replied to, aborted, doubled."""

from __future__ import annotations

import pytest

from kmsconn.emulator.contracts.generation_releases import named_pair, prep_keygen_hash
from kmsconn.emulator.contracts.protocol_config import FIRST_PREDECESSOR, announce
from kmsconn.emulator.dependencies import sender_of, signer_of
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies
from kmsconn.emulator.key_ceremonies import CRS, PREP, announcement_of
from kmsconn.emulator.key_life import KeyVerdict, read_keys
from kmsconn.ethereum.eip712 import signing_digest
from kmsconn.protocols.fhevm.keygen import PREP_RESPONSE

ASKED = ("prepKeygenResponse", PREP)


@pytest.fixture
def dependencies() -> FhevmDependencies:
    return FhevmDependencies.make(lambda: 1_767_225_600.0)


def ask_key(dependencies: FhevmDependencies) -> None:
    contract = dependencies.kms_generation
    dependencies.ethereum.actors.act(contract.address, contract.request_keygen)
    dependencies.ethereum.mine()


def reply(dependencies: FhevmDependencies, sender: int = 0) -> None:
    contract = dependencies.kms_generation
    struct_hash = prep_keygen_hash(PREP, named_pair(CONTEXT, EPOCH))
    signature = signer_of(0).sign(signing_digest(contract.domain, struct_hash))
    calldata = PREP_RESPONSE.encode(PREP, signature)
    dependencies.ethereum.actors.transact(sender_of(sender).address, contract.address, calldata)
    dependencies.ethereum.mine()


def verdict(dependencies: FhevmDependencies) -> KeyVerdict:
    return read_keys(dependencies, dependencies.sender.address)


def test_what_was_asked_is_open_until_this_node_replied_and_a_second_reply_is_a_double(
    dependencies: FhevmDependencies,
) -> None:
    assert verdict(dependencies) == KeyVerdict((), (), frozenset(), 0)
    assert verdict(dependencies).well
    ask_key(dependencies)
    assert verdict(dependencies).open == (ASKED,)
    reply(dependencies, sender=1)  # of another wallet: it counts for nothing
    assert (verdict(dependencies).open, verdict(dependencies).doubled) == ((ASKED,), 0)
    reply(dependencies)
    assert (verdict(dependencies).replied, verdict(dependencies).doubled) == ((ASKED,), 0)
    key = ("keygenResponse", PREP + (1 << 248))  # the preparation asks for the key
    assert verdict(dependencies).open == (key,)
    reply(dependencies)
    assert (verdict(dependencies).replied, verdict(dependencies).doubled) == ((ASKED,), 1)
    assert not verdict(dependencies).well


def test_what_was_aborted_waits_for_nobody(dependencies: FhevmDependencies) -> None:
    contract = dependencies.kms_generation
    dependencies.ethereum.actors.act(contract.address, contract.request_crsgen)
    dependencies.ethereum.actors.act(contract.address, lambda frame: contract.abort_crsgen(frame, CRS))
    dependencies.ethereum.mine()
    assert verdict(dependencies).aborted == {("crsgenResponse", CRS)}
    assert verdict(dependencies).well


def test_a_new_context_is_asked_of_every_node_and_an_announcement_of_the_first_is_not(
    dependencies: FhevmDependencies,
) -> None:
    contract, nodes = dependencies.protocol_config, announcement_of(dependencies.committee)
    dependencies.ethereum.actors.act(
        contract.address, lambda frame: announce(frame, CONTEXT, FIRST_PREDECESSOR, nodes)
    )
    dependencies.ethereum.actors.act(contract.address, lambda frame: contract.begin_context(frame, nodes))
    dependencies.ethereum.mine()
    assert verdict(dependencies).open == (("confirmKmsContextCreation", CONTEXT + 1),)
