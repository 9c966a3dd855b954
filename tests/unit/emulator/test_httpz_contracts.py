"""The rules of the first generation's contracts that no recorded case shows: refused requests, and users' shares counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from kmsconn.emulator.blocks import ExecutionOutcome
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts.gateway_config import EmulatedCoprocessor, KmsNode
from kmsconn.emulator.httpz.decryption_manager import DecryptionManager, UserRequest
from kmsconn.emulator.httpz.key_manager import KeyManager
from kmsconn.emulator.httpz.registry import HttpzContract
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.protocols.httpz_rc7.messages import user_digest
from kmsconn.protocols.queries import mapping_slot

USER, STRANGER = PrivateKey(bytes([7] * 32)), PrivateKey(bytes([8] * 32))
SIGNERS = [PrivateKey(bytes([20 + n] * 32)) for n in range(4)]
SENDERS = [Address(bytes([40 + n] * 20)) for n in range(4)]
APP, OTHER_APP = Address(b"\xaa" * 20), Address(b"\xbb" * 20)
HANDLE, OTHER_KEY, UNCOMMITTED = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
KEY = b"key of the user"
DIGEST = b"\x9f" * 32


@attrs.define
class Scene:
    chain: EmulatedChain
    httpz: HttpzContract
    manager: DecryptionManager
    keys: KeyManager

    def send(self, to: Address, data: bytes, sender: Address = SENDERS[0]) -> ExecutionOutcome:
        sent = self.chain.actors.transact(sender, to, data)
        self.chain.mine()
        mined = self.chain.history.find(sent)
        assert mined is not None
        return mined.outcome

    def key_call(self, name: str, *values: Any, sender: Address = SENDERS[0]) -> ExecutionOutcome:
        return self.send(self.keys.address, contracts.KEY_MANAGER.function(name).encode(*values), sender)

    def ask(self, key: PrivateKey = USER, **changes: Any) -> ExecutionOutcome:
        request = attrs.evolve(
            UserRequest(((HANDLE, APP),), (0, 10), 2025, (APP,), USER.address, KEY), **changes
        )
        signature = key.sign(request.digest(self.manager.domain))
        return self.send(self.manager.address, request.calldata(contracts.DECRYPTION_MANAGER, signature))

    def answer(self, member: int, share: bytes) -> ExecutionOutcome:
        signature = SIGNERS[member].sign(
            user_digest(self.manager.domain, KEY, [HANDLE], share, numeric=False)
        )
        call = contracts.DECRYPTION_MANAGER.function("userDecryptionResponse").encode(1, share, signature)
        return self.send(self.manager.address, call, SENDERS[member])


def scene(threshold: int = 0, *, counts_shares: bool = False) -> Scene:
    chain = EmulatedChain(54321, lambda: 1_743_500_000.0)
    httpz = HttpzContract(Address(b"\x0a" * 20))
    manager = DecryptionManager(Address(b"\x0b" * 20), 54321, httpz, counts_shares=counts_shares)
    keys = KeyManager(Address(b"\x0c" * 20), httpz)
    for contract in (httpz, manager, keys):
        chain.evm.deploy(contract)
    nodes = [KmsNode(sender, signer.address) for sender, signer in zip(SENDERS, SIGNERS, strict=True)]
    chain.evm.set_up(httpz.address, lambda frame: httpz.set_nodes(frame, nodes, threshold))
    chain.evm.set_up(
        httpz.address,
        lambda frame: httpz.set_coprocessors(frame, [EmulatedCoprocessor(APP, APP, "http://b/ct")]),
    )
    for handle, key_id in ((HANDLE, 7), (OTHER_KEY, 8)):
        material = CiphertextReference(handle, key_id, DIGEST, (APP,))
        chain.evm.set_up(manager.address, partial(manager.commit, material=material))
    for handle in (HANDLE, OTHER_KEY, UNCOMMITTED):
        for account in (None, USER.address, APP):
            chain.evm.set_up(manager.address, partial(manager.allow, handle=handle, account=account))
    return Scene(chain, httpz, manager, keys)


def error_of(outcome: ExecutionOutcome) -> str | None:
    """Name what a transaction was refused with; empty where it was refused without a word, None where it was not."""
    if outcome.status:
        return None
    return contracts.ALL_ERRORS[outcome.revert_data[:4]].name if outcome.revert_data else ""


def test_a_user_is_heard() -> None:
    assert error_of(scene().ask()) is None


def test_a_user_may_ask_for_a_delegate() -> None:
    assert error_of(scene().ask(delegate=STRANGER.address)) is None


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        ("InvalidUserSignature", {"key": STRANGER}),
        ("InvalidUserSignature", {"key": STRANGER, "delegate": STRANGER.address}),
        ("ContractAddressesMaxLengthExceeded", {"contracts": (APP,) * 11}),
        ("MaxDurationDaysExceeded", {"validity": (0, 366)}),
        ("ContractNotInContractAddresses", {"pairs": ((HANDLE, OTHER_APP),)}),
        ("DifferentKeyIdsNotAllowed", {"pairs": ((HANDLE, APP), (OTHER_KEY, APP))}),
        ("", {"pairs": ((UNCOMMITTED, APP),)}),
        ("", {"pairs": ((HANDLE, OTHER_APP),), "contracts": (OTHER_APP,)}),
    ],
)
def test_a_user_is_refused(error: str, changes: dict[str, Any]) -> None:
    assert error_of(scene().ask(**changes)) == error


def test_what_nobody_may_know_is_not_made_public() -> None:
    place = scene()
    call = contracts.DECRYPTION_MANAGER.function("publicDecryptionRequest")
    assert error_of(place.send(place.manager.address, call.encode([HANDLE]))) is None
    assert error_of(place.send(place.manager.address, call.encode([b"\x04" * 32]))) == ""


def is_user_done(place: Scene) -> bool:
    slot = mapping_slot(contracts.DECRYPTION_MANAGER_BASE + 10, 1)
    return bool(place.chain.evm.state.get((place.manager.address, slot), 0))


@pytest.mark.parametrize("counts_shares", [False, True])
def test_shares_of_three_nodes_are_enough_where_shares_are_counted(counts_shares: bool) -> None:
    """The real contract counts equal ones, and there are none (13.16)."""
    place = scene(1, counts_shares=counts_shares)
    place.ask()
    seen = []
    for member in range(4):
        assert place.answer(member, b"share %d" % member).status
        seen.append(is_user_done(place))
    assert seen == [False, False, counts_shares, counts_shares]


def make_key(place: Scene, number: int = 1) -> None:
    place.key_call("preprocessKeygenRequest", "TEST")
    place.key_call("preprocessKeygenResponse", number, number)
    place.key_call("keygenRequest", number)
    place.key_call("keygenResponse", number, number)


def with_parameters() -> Scene:
    place = scene()
    place.key_call("addFheParams", "TEST", DIGEST)
    return place


REFUSED: list[tuple[str, Callable[[Scene], ExecutionOutcome]]] = [
    ("FheParamsNotInitialized", lambda p: p.key_call("crsgenRequest", "OTHER")),
    ("FheParamsNotInitialized", lambda p: p.key_call("updateFheParams", "OTHER", DIGEST)),
    ("FheParamsAlreadyInitialized", lambda p: p.key_call("addFheParams", "TEST", DIGEST)),
    ("KeygenPreprocessingRequired", lambda p: p.key_call("keygenRequest", 2)),
    ("KeygenRequestAlreadySent", lambda p: p.key_call("keygenRequest", 1)),
    ("KskgenSameSrcAndDestKeyIds", lambda p: p.key_call("kskgenRequest", 1, 1, 1)),
    ("KskgenPreprocessingRequired", lambda p: p.key_call("kskgenRequest", 1, 1, 2)),
    ("ActivateKeyRequiresKeygen", lambda p: p.key_call("activateKeyRequest", 2)),
    ("NotCoprocessorTxSender", lambda p: p.key_call("activateKeyResponse", 1)),
]


@pytest.mark.parametrize(("error", "act"), REFUSED)
def test_a_key_request_out_of_turn_is_refused(error: str, act: Callable[[Scene], ExecutionOutcome]) -> None:
    place = with_parameters()
    make_key(place)
    assert error_of(act(place)) == error


@pytest.mark.parametrize(
    ("error", "keys"), [("KskgenSourceKeyNotGenerated", (5, 1)), ("KskgenDestKeyNotGenerated", (1, 5))]
)
def test_a_switching_key_needs_both_keys(error: str, keys: tuple[int, int]) -> None:
    place = with_parameters()
    make_key(place)
    place.key_call("preprocessKskgenRequest", "TEST")
    place.key_call("preprocessKskgenResponse", 1, 1)
    assert error_of(place.key_call("kskgenRequest", 1, *keys)) == error


def test_a_second_key_is_in_use_only_once_there_is_a_switching_key() -> None:
    place = with_parameters()
    for number in (1, 2):
        make_key(place, number)
    assert error_of(place.key_call("activateKeyRequest", 1)) is None
    assert error_of(place.key_call("activateKeyRequest", 1)) == "ActivateKeyRequestAlreadySent"
    place.key_call("activateKeyResponse", 1, sender=APP)
    assert error_of(place.key_call("activateKeyRequest", 2)) == "ActivateKeyRequiresKskgen"
    place.key_call("preprocessKskgenRequest", "TEST")
    place.key_call("preprocessKskgenResponse", 1, 1)
    place.key_call("kskgenRequest", 1, 1, 2)
    place.key_call("kskgenResponse", 1, 1)
    assert error_of(place.key_call("activateKeyRequest", 2)) is None


def test_a_request_that_rests_on_nothing_may_be_made_all_the_same() -> None:
    """A knob, for what a connector does when other nodes were quicker than its own Core."""
    place = scene()
    place.chain.actors.act(place.keys.address, lambda frame: place.keys.ask(frame, Kind.KEYGEN, 5, DIGEST))
    (mined,) = place.chain.mine().mined
    assert contracts.KEY_MANAGER.event("KeygenRequest").decode(mined.logs[0].topics, mined.logs[0].data) == (
        5,
        DIGEST,
    )
