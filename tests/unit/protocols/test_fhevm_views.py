"""Contexts as the Gateway knows them: what "invalid context" means for a reply, by the reverts of the real contracts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from kmsconn.errors import Denied, NotYet, Undecodable, WrongSignature
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, HANDLE_BYTES, chain_id_of, make_id
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm import contracts
from kmsconn.protocols.fhevm.access import MAGIC_VALUE, AccessControl, wallet_agrees
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.fhevm.views import CONFIG_BASE, ConfigViews, GatewayViews
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.profile import Coprocessor
from kmsconn.protocols.queries import ViewCall, base_slot, mapping_slot
from tests import vectors
from tests.vectors import load, vector_settings

CHAIN = 54321
CONTRACT = Address(b"\x22" * 20)
DECRYPTIONS = contracts.DecryptionViews(CHAIN, CONTRACT)
GATEWAY, CONFIG = GatewayViews(CHAIN, CONTRACT), ConfigViews(CHAIN, CONTRACT)
READS = vectors.load()["storage"]["reads"]
VIEWS = vectors.load()["views"] + vectors.load()["ethereum"]["views"]


def name_of(entry: dict[str, Any]) -> str:
    return f"{entry['stage'][:20]}-{entry['function']}"


TYPED: dict[str, Callable[..., ViewCall[Any]]] = {
    "getCoprocessorTxSenders": GATEWAY.coprocessor_senders,
    "getCoprocessorMajorityThreshold": GATEWAY.coprocessor_threshold,
    "getCurrentKmsContextId": GATEWAY.current_context,
    "getCurrentKmsContextAndEpoch": CONFIG.current_context_and_epoch,
    "getCoprocessor": GATEWAY.coprocessor,
    "getKmsNodeForContext": GATEWAY.node_signer,
    "isValidKmsContext": CONFIG.is_valid_context,
    "isValidEpochForContext": CONFIG.is_valid_epoch,
}


def plain(value: Any) -> Any:
    """Return a value as the vectors write it, to be compared without regard to its form."""
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return int.from_bytes(value)
    return int(value) if isinstance(value, (int, bool)) else value


def given(value: Any) -> Any:
    if isinstance(value, list):
        return [given(part) for part in value]
    if isinstance(value, str) and value.startswith("0x"):
        return int(value, 16) if value != "0x" else 0
    return int(value) if isinstance(value, bool) else value


@pytest.mark.parametrize("entry", [entry for entry in VIEWS if "decoded" in entry], ids=name_of)
def test_results_of_the_real_contracts(entry: dict[str, Any]) -> None:
    function = contracts.CONTRACTS[entry["contract"]].function(entry["function"])
    values = function.decode_result(from_hex(entry["result"]))
    assert plain(values) == given(entry["decoded"])
    assert function.encode_result(*values) == from_hex(entry["result"])


def typed() -> list[Any]:
    return [entry for entry in VIEWS if "decoded" in entry and entry["function"].split("(")[0] in TYPED]


@pytest.mark.parametrize("entry", typed(), ids=name_of)
def test_typed_questions_have_their_calldata_and_their_answer(entry: dict[str, Any]) -> None:
    function = contracts.CONTRACTS[entry["contract"]].function(entry["function"])
    calldata = from_hex(entry["call"]["data"])
    view = TYPED[function.name](*function.decode(calldata))
    assert view.data == calldata
    found, expected = view.read(from_hex(entry["result"])), given(entry["decoded"])
    if isinstance(found, Coprocessor):
        assert plain((found.tx_sender, found.signer, found.bucket)) == expected[0]
    elif function.name == "getKmsNodeForContext":
        assert plain(found) == expected[0][1]
    else:
        assert plain(found) == (expected if function.name == "getCurrentKmsContextAndEpoch" else expected[0])


def test_most_of_the_typed_questions_are_in_the_vectors() -> None:
    assert {entry["function"].split("(")[0] for entry in typed()} == set(TYPED)


@pytest.mark.parametrize("entry", READS, ids=lambda entry: f"{entry['stage'][:30]}-{entry['what']}")
def test_slots_of_annex_e(entry: dict[str, Any]) -> None:
    what, value = entry["what"], from_hex(entry["value"])
    identifier = int(entry.get("id", "0x0"), 16)
    if what.startswith("base+6"):
        slot: Any = DECRYPTIONS.newest_public_id()
    elif what.startswith("base+8"):
        slot = DECRYPTIONS.newest_user_id()
    elif what.startswith("base+9"):
        slot = DECRYPTIONS.pinned_context(identifier)
    elif what.startswith("base+1["):
        slot = DECRYPTIONS.has_answered(identifier, Address(from_hex(entry["signer"])))
    else:
        assert mapping_slot(contracts.DECRYPTION_BASE, identifier) == int(entry["slot"], 16)
        return
    assert slot.slot == int(entry["slot"], 16)
    assert int(slot.read(value)) == int.from_bytes(value)


def test_base_slots_of_the_namespaces() -> None:
    storage = vectors.load()["storage"]
    assert base_slot(storage["namespace"]) == int(storage["base_slot"], 16) == contracts.DECRYPTION_BASE
    expected = "80f3585af86806c5774303b06c1ee640aa83b6ef3e45df49bb26c8524500c200"
    assert f"{CONFIG_BASE:064x}" == expected


@pytest.mark.parametrize(
    "entry", vectors.load()["ethereum"]["acl"]["results"], ids=lambda entry: entry["calldata"][:90]
)
def test_results_of_the_real_acl(entry: dict[str, str]) -> None:
    calldata = from_hex(entry["calldata"])
    function = contracts.ACL.functions_by_selector[calldata[:4]]
    values = function.decode(calldata)
    raw = next((one for one in values if len(one) == HANDLE_BYTES), bytes(HANDLE_BYTES))
    lists, handle = AccessControl({chain_id_of(raw): CONTRACT}), raw
    match function.name:
        case "isAllowedForDecryption":
            view = lists.public(handle)
        case "isAllowed":
            view = lists.allowed(handle, values[1])
        case "decryptionSignatureInvalidatedBefore":
            before = int(entry["result"], 16)
            lists.not_invalidated(handle, values[0], before).read(from_hex(entry["result"]))
            view = lists.not_invalidated(handle, values[0], before - 1)
        case _:
            view = lists.delegated(handle, *values[:3])
    assert view.data == calldata
    refused = function.name.endswith("Before") or not int(entry["result"], 16)
    with pytest.raises((Denied, WrongSignature)) if refused else nullcontext():
        view.read(from_hex(entry["result"]))


def test_a_wallet_is_asked_with_bounded_gas() -> None:
    rest: Any = {"age": 0.0, "domain_confirmed": True}
    view = wallet_agrees(CHAIN, CONTRACT, bytes(32), b"\x01\x02", gas=100_000, **rest)
    method, (message, block) = view.call()
    assert (method, message["gas"], block) == ("eth_call", "0x186a0", "latest")
    assert from_hex(message["data"])[:4] == MAGIC_VALUE == bytes.fromhex("1626ba7e")


def test_a_view_of_no_contract_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        GATEWAY.coprocessor_threshold().read(b"")


@pytest.mark.parametrize("entry", [entry for entry in VIEWS if "error" in entry], ids=name_of)
def test_a_context_that_the_contract_does_not_know_is_waited_for(entry: dict[str, Any]) -> None:
    view = GATEWAY.node_signer(7 << 248, CONTRACT)
    with pytest.raises(NotYet, match="unknown"):
        view.refused(entry["error"]["message"], from_hex(entry["error"]["data"]))


@pytest.mark.parametrize("data", [None, b"", bytes(36)])
def test_other_errors_about_a_node_are_no_answer(data: bytes | None) -> None:
    assert GATEWAY.node_signer(7 << 248, CONTRACT).refused("busy", data) is None


PROFILE = Fhevm(vector_settings())
CURRENT = make_id(CONTEXT_TAG, 2)


def verdict(plan: Any, current: int = CURRENT) -> Verdict:
    """Put a plan to a Gateway whose current context is this."""
    [_] = next(plan)
    with pytest.raises(StopIteration) as end:
        plan.send([current])
    found: Verdict = end.value.value
    return found


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (make_id(CONTEXT_TAG, 1), Verdict.FINAL),
        (CURRENT, Verdict.FINAL),
        (make_id(CONTEXT_TAG, 3), Verdict.RETRY),  # a node that lags, or a context that is not there yet
        (make_id(CONTEXT_TAG, 0), Verdict.RETRY),
        (make_id(EPOCH_TAG, 1), Verdict.RETRY),
        (0, Verdict.RETRY),
    ],
)
def test_an_invalid_context_that_was_issued_was_destroyed(context: int, expected: Verdict) -> None:
    assert verdict(GATEWAY.after_invalid(context)) is expected


def recorded(kind: str) -> bytes:
    """Return what the real contract said to a reply under a destroyed context."""

    def entries(found: Any) -> Any:
        if isinstance(found, dict):
            if found.get("name") == f"{kind}: context 1 destroyed":
                yield found
            found = list(found.values())
        if isinstance(found, list):
            for one in found:
                yield from entries(one)

    [entry] = entries(load())
    return b"".join(map(from_hex, [entry["selector"], *entry["arguments"]]))


@pytest.mark.parametrize(
    ("name", "kind"), [("public", Kind.PUBLIC_DECRYPTION), ("user", Kind.USER_DECRYPTION)]
)
def test_a_reply_under_a_destroyed_context_is_final(name: str, kind: Kind) -> None:
    revert = PROFILE.operations[kind].revert(recorded(name))
    assert (revert.name, revert.verdict) == ("InvalidKmsContext", Verdict.RETRY)
    assert revert.plan is not None
    assert verdict(revert.plan()) is Verdict.FINAL
