"""The emulated contracts of the first generation do what the real ones did, and what no recorded case shows: rights and shares."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.emulator.blocks import ExecutionOutcome
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts.gateway_config import KmsNode
from kmsconn.emulator.httpz.contracts import DecryptionManager, HttpzContract
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.protocols.httpz_rc7.messages import user_digest
from kmsconn.protocols.queries import mapping_slot
from tests.unit.emulator.httpz_vector_world import AFTER_THE_VALID_REPLIES, Step, fresh, replay, steps
from tests.unit.emulator.small_world import rpc
from tests.vectors import httpz as vectors

SIGNERS = [PrivateKey(bytes([20 + n] * 32)) for n in range(4)]
SENDERS = [Address(bytes([40 + n] * 20)) for n in range(4)]
USER, APP, OTHER_APP = (Address(bytes([n]) * 20) for n in (7, 0xAA, 0xBB))
HANDLE, OTHER_KEY, UNCOMMITTED = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
KEY = b"key of the user"


@attrs.define
class Scene:
    chain: EmulatedChain
    manager: DecryptionManager

    def send(self, name: str, *values: Any, sender: Address = SENDERS[0]) -> ExecutionOutcome:
        call = contracts.DECRYPTION_MANAGER.function(name).encode(*values)
        sent = self.chain.actors.transact(sender, self.manager.address, call)
        self.chain.mine()
        mined = self.chain.history.find(sent)
        assert mined is not None
        return mined.outcome

    def ask(self, *pairs: tuple[bytes, Address]) -> ExecutionOutcome:
        return self.send("userDecryptionRequest", pairs, (0, 10), 2025, (APP,), USER, KEY, b"")

    def answer(self, member: int, share: bytes) -> ExecutionOutcome:
        signature = SIGNERS[member].sign(
            user_digest(self.manager.domain, KEY, [HANDLE], share, numeric=False)
        )
        return self.send("userDecryptionResponse", 1, share, signature, sender=SENDERS[member])


def scene(threshold: int = 0, *, counts_shares: bool = False) -> Scene:
    chain = EmulatedChain(54321, lambda: 1_743_500_000.0)
    httpz = HttpzContract(Address(b"\x0a" * 20))
    manager = DecryptionManager(Address(b"\x0b" * 20), 54321, httpz, counts_shares=counts_shares)
    for contract in (httpz, manager):
        chain.evm.deploy(contract)
    nodes = [KmsNode(sender, signer.address) for sender, signer in zip(SENDERS, SIGNERS, strict=True)]
    chain.evm.set_up(httpz.address, httpz.set_nodes, nodes, threshold)
    for handle, key_id in ((HANDLE, 7), (OTHER_KEY, 8)):
        material = CiphertextReference(handle, key_id, b"\x9f" * 32, (APP,))
        chain.evm.set_up(manager.address, manager.commit, material=material)
    for handle in (HANDLE, OTHER_KEY, UNCOMMITTED):
        for account in (None, USER, APP):
            chain.evm.set_up(manager.address, manager.allow, handle=handle, account=account)
    return Scene(chain, manager)


def error_of(outcome: ExecutionOutcome) -> str | None:
    """Name what a transaction was refused with; empty where it was refused without a word, None where it was not."""
    if outcome.status:
        return None
    return contracts.ALL_ERRORS[outcome.revert_data[:4]].name if outcome.revert_data else ""


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([(HANDLE, APP)], None),
        ([(HANDLE, APP), (OTHER_KEY, APP)], "DifferentKeyIdsNotAllowed"),
        ([(UNCOMMITTED, APP)], ""),
        ([(HANDLE, OTHER_APP)], ""),
    ],
)
def test_a_user_is_heard_who_has_the_rights_to_committed_ciphertexts_of_one_key(
    pairs: list[tuple[bytes, Address]], error: str | None
) -> None:
    assert error_of(scene().ask(*pairs)) == error


def test_what_nobody_may_know_is_not_made_public() -> None:
    place = scene()
    assert error_of(place.send("publicDecryptionRequest", [HANDLE])) is None
    assert error_of(place.send("publicDecryptionRequest", [b"\x04" * 32])) == ""


def is_user_done(place: Scene) -> bool:
    slot = mapping_slot(contracts.DECRYPTION_MANAGER_BASE + 10, 1)
    return bool(place.chain.evm.state.get((place.manager.address, slot), 0))


@pytest.mark.parametrize("counts_shares", [False, True])
def test_shares_of_three_nodes_are_enough_where_shares_are_counted(counts_shares: bool) -> None:
    """The real contract counts equal ones, and there are none (13.16)."""
    place = scene(1, counts_shares=counts_shares)
    place.ask((HANDLE, APP))
    seen = []
    for member in range(4):
        assert place.answer(member, b"share %d" % member).status
        seen.append(is_user_done(place))
    assert seen == [False, False, counts_shares, counts_shares]


STEPS = [(revision, step) for revision in vectors.REVISIONS for step in steps(revision)]
ACTIVATES = to_hex(contracts.KEY_MANAGER.function("activateKeyResponse").selector)
"""What coprocessors do; it is not emulated."""
REVERTS = [
    (r, case)
    for r in vectors.REVISIONS
    for case in vectors.load()[r]["reverts"]["cases"]
    if not case["calldata"].startswith(ACTIVATES)
]
INTERFACES = {"2c7c8d0e4": "rc7", "803765a9a": "main", "473b0063a": "rc9"}
GETTERS = [
    (commit, view)
    for commit, listed in vectors.load()["views"].items()
    for view in listed
    if "oprocessor" in view["name"] or "Node" in view["name"] or "before" in view["name"]
]
LATER = [
    (revision, view)
    for revision, commit in (("uint256", "2c7c8d0e4"), ("bytes32", "803765a9a"))
    for view in vectors.load()["views"][commit]
    if "before" not in view["name"] and "CurrentKeyId" not in view["name"]
]


def logged(revision: str, step: Step) -> tuple[int, list[tuple[str, list[str], str]]]:
    """Return the status and the logs of a transaction that was played again."""
    mined = replay(revision).mined[step.name]
    logs = [
        (to_hex(log.address), [to_hex(topic) for topic in log.topics], to_hex(log.data)) for log in mined.logs
    ]
    return mined.outcome.status, logs


def test_a_recorded_transaction_emits_the_recorded_logs() -> None:
    for revision, step in STEPS:
        expected = [(log["address"], log["topics"], log["data"]) for log in step.logs]
        assert logged(revision, step) == (1, expected), (revision, step.name)


@pytest.mark.parametrize(
    ("method", "more"), [("eth_call", [hex(AFTER_THE_VALID_REPLIES)]), ("eth_estimateGas", [])]
)
def test_a_refused_reply_gives_the_recorded_error_object(method: str, more: list[str]) -> None:
    for revision, case in REVERTS:
        assert case["eth_estimateGas_error"] == "same as eth_call_error"
        call = {"from": case["from"], "to": case["to"], "data": case["calldata"]}
        answer = rpc(replay(revision).node, method, call, *more)
        assert case["eth_call_error"] == answer["error"], (revision, vectors.name_of(case))


def test_a_getter_gives_the_recorded_bytes_in_each_interface() -> None:
    nodes = {commit: fresh(interface).node for commit, interface in INTERFACES.items()}
    assert [(commit, view) for commit, view in GETTERS if not as_recorded(nodes[commit], view)] == []


def test_a_view_gives_the_recorded_bytes_in_the_end() -> None:
    assert [
        (revision, view) for revision, view in LATER if not as_recorded(replay(revision).node, view)
    ] == []


def as_recorded(node: Any, view: dict[str, Any]) -> bool:
    """Say whether a view gives the recorded result or error."""
    answer = rpc(node, "eth_call", {"to": view["to"], "data": view["call_data"]}, "latest")
    what = "error" if "error" in view else "result"
    return bool(view[what] == answer.get(what))


def test_everything_recorded_is_played() -> None:
    counted = {revision: len(replay(revision).mined) for revision in vectors.REVISIONS}
    assert counted == {revision: len(steps(revision)) for revision in vectors.REVISIONS}
    assert (len(STEPS), len(REVERTS)) == (158, 81)
