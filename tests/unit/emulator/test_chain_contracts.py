"""What no recorded case and no real contract shows of the emulated ones: how their knobs move them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmsconn.emulator.contracts.acl import EVERY_CONTRACT, Acl
from kmsconn.emulator.contracts.gateway_config import Committee, KmsNode, Thresholds
from kmsconn.emulator.execution import Frame
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.ids import CONTEXT_TAG, make_id
from kmsconn.protocols.fhevm.contracts import ACL, LATER_EVENTS
from tests.unit.emulator.small_world import (
    CONFIG_ADDRESS,
    DECRYPTION_ADDRESS,
    NOW,
    SENDER,
    SIGNER,
    STRANGER,
    handle,
    world,
)

APP, OTHER_APP = Address(b"\xa1" * 20), Address(b"\xa2" * 20)
USER, OWNER = SENDER, STRANGER


def test_after_the_upgrade_each_request_is_emitted_twice() -> None:
    made = world()
    made.chain.actors.act(DECRYPTION_ADDRESS, made.decryption.emit_later_events)
    asked = made.ask(3)
    made.chain.mine()
    first, second = made.mined(asked).logs
    assert LATER_EVENTS[second.topics[0]].decode(second.topics, second.data)[1] == (handle(3),)
    assert first.topics[1] == second.topics[1]


def test_the_generation_after_that_emits_the_later_form_only() -> None:
    made = world()
    made.chain.evm.set_up(DECRYPTION_ADDRESS, made.decryption.emit_later_events, only=True)
    asked = made.ask(3)
    made.chain.mine()
    [log] = made.mined(asked).logs
    assert log.topics[0] in LATER_EVENTS


def test_a_late_answer_is_accepted_without_effect() -> None:
    made = world()
    second = KmsNode(STRANGER.address, STRANGER.address)
    nodes = Committee((KmsNode(SENDER.address, SIGNER.address), second), Thresholds(public=1))
    made.chain.evm.set_up(CONFIG_ADDRESS, made.config.set_context, make_id(CONTEXT_TAG, 1), nodes)
    made.ask()
    made.chain.mine()
    senders = ((SENDER.address, SIGNER), (STRANGER.address, STRANGER))
    replies = [
        made.chain.actors.transact(who, DECRYPTION_ADDRESS, made.reply(1, signer=key)) for who, key in senders
    ]
    made.chain.mine()
    assert [(made.mined(r).outcome.status, len(made.mined(r).logs)) for r in replies] == [(1, 2), (1, 1)]


ACL_ADDRESS = Address(b"\xac" * 20)


def delegated(prepare: Callable[[Acl, Frame], None]) -> bool:
    """Tell whether ``USER`` may decrypt for ``OWNER`` in ``APP`` after some preparation."""
    made, acl = world(), Acl(ACL_ADDRESS)
    made.chain.evm.deploy(acl)
    made.chain.evm.set_up(ACL_ADDRESS, lambda frame: prepare(acl, frame))
    function = ACL.function("isHandleDelegatedForUserDecryption")
    call = function.encode(OWNER.address, USER.address, APP, handle(0))
    result, _ = made.chain.view().call(ACL_ADDRESS, call, sender=ZERO_ADDRESS, gas=10**7)
    (allowed,) = function.decode_result(result)
    return bool(allowed)


def rights(acl: Acl, frame: Frame, *, owner: bool = True, contract: bool = True) -> None:
    acl.allow(frame, handle(0), OWNER.address, allowed=owner)
    acl.allow(frame, handle(0), APP, allowed=contract)


def test_a_delegation_needs_delegator_and_contract_to_be_allowed() -> None:
    def prepared(**changes: bool) -> bool:
        def prepare(acl: Acl, frame: Frame) -> None:
            rights(acl, frame, **changes)
            acl.delegate(frame, OWNER.address, USER.address, APP)

        return delegated(prepare)

    assert (prepared(), prepared(owner=False), prepared(contract=False)) == (True, False, False)


@pytest.mark.parametrize(
    ("contract", "expiry", "expected"),
    [
        (APP, NOW + 1, True),
        (APP, NOW, False),
        (APP, 0, False),
        (EVERY_CONTRACT, NOW + 1, True),
        (OTHER_APP, NOW + 1, False),
    ],
)
def test_a_delegation_holds_for_its_contract_until_it_ends(
    contract: Address, expiry: int, expected: bool
) -> None:
    def prepare(acl: Acl, frame: Frame) -> None:
        rights(acl, frame)
        acl.delegate(frame, OWNER.address, USER.address, contract, expiry)

    assert delegated(prepare) is expected
