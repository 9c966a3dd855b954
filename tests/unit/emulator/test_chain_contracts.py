"""What the emulated contracts refuse of a request, what they store, and how their knobs move them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kmsconn.emulator.contracts.acl import EVERY_CONTRACT, MAGIC, Acl, Mood, WalletContract
from kmsconn.emulator.contracts.contract import recover_strictly
from kmsconn.emulator.contracts.gateway_config import Committee, KmsNode, Thresholds
from kmsconn.emulator.contracts.request_calls import (
    UNIFIED_TYPE,
    Asking,
    delegated_request,
    direct_request,
    public_request,
    request_domain,
    sign_unified,
    unified_request,
)
from kmsconn.emulator.execution import Frame, OutOfGas, Reverted
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.eip712 import hash_struct, signing_digest
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, KEY_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey, recover
from kmsconn.protocols.fhevm.contracts import (
    ACL,
    ALL_ERRORS,
    DECRYPTION,
    ERC1271,
    GATEWAY_CONFIG,
    LATER_EVENTS,
)
from tests.unit.emulator.small_world import (
    CONFIG_ADDRESS,
    DECRYPTION_ADDRESS,
    NOW,
    SENDER,
    SIGNER,
    STRANGER,
    World,
    handle,
    world,
)
from tests.unit.emulator.vector_world import rpc

DAY = 86_400
APP, OTHER_APP = Address(b"\xa1" * 20), Address(b"\xa2" * 20)
USER, OWNER = SENDER, STRANGER
ASKING = Asking(DECRYPTION_ADDRESS, b"public key", NOW - DAY, (APP, OTHER_APP))
PAIR = (handle(0), APP)


def refusal(made: World, calldata: bytes) -> tuple[str, tuple[Any, ...]]:
    """Return name and arguments of the custom error that a call gives."""
    with pytest.raises(Reverted) as caught:
        made.chain.view().call(DECRYPTION_ADDRESS, calldata, sender=ZERO_ADDRESS, gas=10**8)
    error = ALL_ERRORS[caught.value.data[:4]]
    return error.name, error.decode(caught.value.data)


def accepted(made: World, calldata: bytes) -> tuple[Any, ...]:
    """Execute a call and return the values of its only log."""
    sent = made.chain.actors.transact(ZERO_ADDRESS, DECRYPTION_ADDRESS, calldata)
    made.chain.mine()
    (log,) = made.mined(sent).logs
    values = DECRYPTION.events_by_topic[log.topics[0]].decode(log.topics, log.data)
    return tuple(values)


def test_ids_count_up_from_one() -> None:
    made = world()
    ids = [accepted(made, public_request([handle(0)]))[0] for _ in range(2)]
    assert ids == [make_id(1, 1), make_id(1, 2)]


PUBLIC_REFUSALS: list[tuple[Callable[[], bytes], str, tuple[Any, ...]]] = [
    (lambda: public_request([handle(fhe_type=1)]), "UnsupportedFHEType", (1,)),
    (lambda: public_request([handle(fhe_type=200)]), "InvalidFHEType", (200,)),
    (lambda: public_request([handle(fhe_type=8)] * 9), "MaxDecryptionRequestBitSizeExceeded", (2048, 2304)),
    (lambda: public_request([handle(0)], b"\x03"), "UnsupportedExtraDataVersion", (3,)),
    (lambda: public_request([handle(0)], b"\x01" + bytes(31)), "InvalidExtraDataLength", (32, 33)),
    (lambda: public_request([handle(0)], b"\x02" + b"\x07" * 32), "InvalidKmsContext", (int("07" * 32, 16),)),
]


@pytest.mark.parametrize(
    ("call", "name", "values"), PUBLIC_REFUSALS, ids=[case[1] for case in PUBLIC_REFUSALS]
)
def test_a_public_request_is_refused(call: Callable[[], bytes], name: str, values: tuple[Any, ...]) -> None:
    assert refusal(world(), call()) == (name, values)


def test_materials_under_two_keys_are_refused() -> None:
    made = world()
    made.commit(handle(50), key_id=make_id(KEY_TAG, 2))
    assert refusal(made, public_request([handle(0), handle(50)]))[0] == "DifferentKeyIdsNotAllowed"


def test_an_unregistered_host_chain_is_refused() -> None:
    made = world()
    made.chain.evm.set_up(CONFIG_ADDRESS, lambda f: made.config.set_host_chains(f, [1]))
    assert refusal(made, public_request([handle(0)])) == ("HostChainNotRegistered", (12345,))


def test_a_paused_contract_refuses_requests_and_takes_replies() -> None:
    made = world()
    made.ask()
    made.chain.actors.act(DECRYPTION_ADDRESS, made.decryption.pause)
    made.chain.mine()
    assert refusal(made, public_request([handle(0)])) == ("EnforcedPause", ())
    made.chain.view().call(DECRYPTION_ADDRESS, made.reply(1), sender=SENDER.address, gas=10**8)


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
    made.chain.evm.set_up(
        DECRYPTION_ADDRESS, lambda frame: made.decryption.emit_later_events(frame, only=True)
    )
    asked = made.ask(3)
    made.chain.mine()
    [log] = made.mined(asked).logs
    assert log.topics[0] in LATER_EVENTS


def test_a_direct_request_emits_user_and_key() -> None:
    values = accepted(world(), direct_request(ASKING, USER, [PAIR]))
    assert (values[0], values[2], values[3]) == (make_id(2, 1), USER.address, b"public key")


def test_a_delegated_request_emits_the_delegate() -> None:
    values = accepted(world(), delegated_request(ASKING, USER, OWNER.address, [PAIR]))
    assert values[2] == USER.address


def test_all_user_requests_share_one_counter() -> None:
    made = world()
    calls = (
        direct_request(ASKING, USER, [PAIR]),
        delegated_request(ASKING, USER, OWNER.address, [PAIR]),
        unified_request(ASKING, USER.address, [(*PAIR, OWNER.address)], b""),
    )
    assert [accepted(made, call)[0] for call in calls] == [make_id(2, n) for n in (1, 2, 3)]


def test_a_unified_request_takes_any_signature() -> None:
    call = unified_request(ASKING, USER.address, [(*PAIR, OWNER.address)], b"anything")
    *_, payload = accepted(world(), call)
    assert payload[-1] == b"anything"


def test_a_window_that_begins_a_second_later_is_refused() -> None:
    later = attrs.evolve(ASKING, start=NOW + 1)
    assert refusal(world(), direct_request(later, USER, [PAIR]))[0] == "StartTimestampInFuture"


def test_the_delegator_does_not_sign() -> None:
    """The delegate does, so a request signed by the delegator is refused."""
    signed_by_owner = delegated_request(ASKING, OWNER, OWNER.address, [PAIR])
    forged = signed_by_owner.replace(
        OWNER.address.rjust(32, b"\0") * 2, OWNER.address.rjust(32, b"\0") + USER.address.rjust(32, b"\0")
    )
    assert refusal(world(), forged)[0] == "InvalidUserSignature"


def test_a_late_answer_is_accepted_without_effect() -> None:
    made = world()
    second = KmsNode(STRANGER.address, STRANGER.address)
    nodes = Committee((KmsNode(SENDER.address, SIGNER.address), second), Thresholds(public=1))
    made.chain.evm.set_up(
        CONFIG_ADDRESS, lambda f: made.config.set_context(f, make_id(CONTEXT_TAG, 1), nodes)
    )
    made.ask()
    made.chain.mine()
    senders = ((SENDER.address, SIGNER), (STRANGER.address, STRANGER))
    replies = [
        made.chain.actors.transact(who, DECRYPTION_ADDRESS, made.reply(1, signer=key)) for who, key in senders
    ]
    made.chain.mine()
    assert [(made.mined(r).outcome.status, len(made.mined(r).logs)) for r in replies] == [(1, 2), (1, 1)]


def test_calldata_of_no_known_function_reverts_without_data() -> None:
    answer = rpc(world().node, "eth_call", {"to": to_hex(DECRYPTION_ADDRESS), "data": "0x12345678"}, "latest")
    assert answer["error"] == {"code": 3, "message": "execution reverted", "data": "0x"}


def test_malformed_calldata_reverts_without_data() -> None:
    call = {"to": to_hex(DECRYPTION_ADDRESS), "data": "0x6f8913bc00"}
    assert rpc(world().node, "eth_call", call, "latest")["error"]["data"] == "0x"


def test_a_new_context_is_the_current_one() -> None:
    made = world()
    second = make_id(CONTEXT_TAG, 2)
    nodes = Committee((KmsNode(SENDER.address, SIGNER.address),))
    made.chain.actors.act(CONFIG_ADDRESS, lambda f: made.config.set_context(f, second, nodes))
    made.chain.mine()
    call = {
        "to": to_hex(CONFIG_ADDRESS),
        "data": to_hex(GATEWAY_CONFIG.function("getCurrentKmsContextId").encode()),
    }
    assert int(rpc(made.node, "eth_call", call, "latest")["result"], 16) == second


def test_knobs_that_act_emit_their_events() -> None:
    made = world()
    nodes = Committee((KmsNode(SENDER.address, SIGNER.address),))
    sent = made.chain.actors.act(
        CONFIG_ADDRESS, lambda f: made.config.set_context(f, make_id(CONTEXT_TAG, 2), nodes)
    )
    made.chain.mine()
    assert [GATEWAY_CONFIG.events_by_topic[log.topics[0]].name for log in made.mined(sent).logs] == [
        "UpdateKmsContext"
    ]


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


WALLET_ADDRESS = Address(b"\x3a" * 20)
IS_VALID = ERC1271.function("isValidSignature")


def wallet_answer(mood: Mood, signature: bytes, digest: bytes) -> bytes:
    made, wallet = world(), WalletContract(WALLET_ADDRESS, USER.address)
    made.chain.evm.deploy(wallet)
    made.chain.evm.set_up(WALLET_ADDRESS, lambda frame: wallet.set_mood(frame, mood))
    call = IS_VALID.encode(digest, signature)
    return made.chain.view().call(WALLET_ADDRESS, call, sender=ZERO_ADDRESS, gas=100_000)[0]


DIGEST = b"\x11" * 32


def test_an_honest_wallet_accepts_its_owner_and_nobody_else() -> None:
    assert wallet_answer(Mood.HONEST, USER.sign(DIGEST), DIGEST)[:4] == MAGIC
    assert wallet_answer(Mood.HONEST, OWNER.sign(DIGEST), DIGEST)[:4] != MAGIC


def test_a_wallet_may_say_no_or_something_short() -> None:
    good = USER.sign(DIGEST)
    assert wallet_answer(Mood.NO, good, DIGEST) == b"\xff" * 4 + bytes(28)
    assert wallet_answer(Mood.SHORT, good, DIGEST) == MAGIC


def test_a_wallet_may_revert_or_burn_all_gas() -> None:
    with pytest.raises(Reverted):
        wallet_answer(Mood.REVERT, b"", DIGEST)
    with pytest.raises(OutOfGas):
        wallet_answer(Mood.BURN, b"", DIGEST)


def test_a_wallet_accepts_what_its_owner_signed_for_it() -> None:
    """The digest of a unified request names the wallet as user; its owner signs."""
    values = (WALLET_ADDRESS, ASKING.public_key, ASKING.contracts, ASKING.start, ASKING.days * DAY, b"")
    digest = signing_digest(request_domain(DECRYPTION_ADDRESS, 12345), hash_struct(UNIFIED_TYPE, *values))
    signature = sign_unified(ASKING, USER, WALLET_ADDRESS, 12345)
    assert wallet_answer(Mood.HONEST, signature, digest)[:4] == MAGIC


SIGNING_KEY = PrivateKey(b"\x11" * 32)
SIGNED = b"\x22" * 32
SIGNATURE = SIGNING_KEY.sign(SIGNED)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HIGH_S = (ORDER - int.from_bytes(SIGNATURE[32:64])).to_bytes(32)


def test_a_signature_with_low_s_and_27_or_28_recovers() -> None:
    assert recover_strictly(SIGNED, SIGNATURE) == SIGNING_KEY.address


@pytest.mark.parametrize(
    ("spoil", "error", "values"),
    [
        (lambda s: s[:64], "ECDSAInvalidSignatureLength", (64,)),
        (lambda s: s + b"\0", "ECDSAInvalidSignatureLength", (66,)),
        (lambda s: s[:32] + HIGH_S + bytes([55 - s[64]]), "ECDSAInvalidSignatureS", (HIGH_S,)),
        (lambda s: s[:64] + bytes([s[64] - 27]), "ECDSAInvalidSignature", ()),
        (lambda s: s[:64] + bytes([s[64] + 8]), "ECDSAInvalidSignature", ()),
        (lambda _: bytes(64) + b"\x1b", "ECDSAInvalidSignature", ()),
    ],
)
def test_every_other_form_reverts(
    spoil: Callable[[bytes], bytes], error: str, values: tuple[object, ...]
) -> None:
    with pytest.raises(Reverted) as caught:
        recover_strictly(SIGNED, spoil(SIGNATURE))
    assert caught.value.data == DECRYPTION.error(error).encode(*values)


def test_a_high_s_and_other_parities_would_recover_elsewhere() -> None:
    high = SIGNATURE[:32] + HIGH_S + bytes([55 - SIGNATURE[64]])
    assert (
        recover(SIGNED, high)
        == recover(SIGNED, SIGNATURE[:64] + bytes([SIGNATURE[64] - 27]))
        == SIGNING_KEY.address
    )
