from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from kmsconn.errors import Denied, Misconfigured, NotYet, Rejected
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.requests import Content
from kmsconn.protocols.fhevm.access import DELEGATED, MAGIC_VALUE, WALLET_SIGNATURE_GRACE
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.fhevm.user_decryption import REQUEST_TYPE, UnifiedUserDecryption, unified_digest
from kmsconn.protocols.port import Facts
from kmsconn.protocols.queries import ContractQuery
from tests import vectors

SETTINGS = vectors.vector_settings()
PROFILE = Fhevm(SETTINGS)
ids = pytest.mark.parametrize("entry", vectors.requests(), ids=lambda entry: entry["name"])
unified_requests = pytest.mark.parametrize(
    "entry", vectors.requests("unified"), ids=lambda entry: entry["name"]
)
YES, NO = (1).to_bytes(32), bytes(32)
UNIFIED = vectors.request("user_unified_own_v0")
TWO_HANDLES = vectors.request("user_unified_own_and_delegated_v0")
NOW = UNIFIED["block_timestamp"]


def content_of(entry: dict[str, Any]) -> Any:
    return PROFILE.decode(vectors.log_of(entry))


def unified(**changes: Any) -> UnifiedUserDecryption:
    content = content_of(UNIFIED)
    assert isinstance(content, UnifiedUserDecryption)
    return attrs.evolve(content, **changes)


def ask(content: Content, facts: Facts | None = None, profile: Fhevm = PROFILE) -> list[ContractQuery[None]]:
    questions = profile.operations[content.kind].checks(content, facts or Facts(chain_time=NOW, age=0))
    return list(questions)


def judge(questions: Iterable[ContractQuery[None]], *results: bytes) -> None:
    for question, result in zip(questions, results, strict=True):
        question.understand(result)


TWO_CONTRACTS = "user_legacy_direct_v1_repeated_handle"
"""A handle listed for two contracts: 0.14 asks for the last one only, outcomes.md wants every pair."""


@pytest.mark.parametrize(
    "entry",
    [entry for entry in vectors.requests() if entry["name"] != TWO_CONTRACTS],
    ids=lambda entry: entry["name"],
)
def test_acl_calls_in_order_and_byte_for_byte(entry: dict[str, Any]) -> None:
    questions = ask(content_of(entry), vectors.facts_of(entry))
    expected = [(call["host_chain_id"], from_hex(call["calldata"])) for call in entry["acl_calls"]]
    assert [(question.chain_id, vectors.data_of(question)) for question in questions] == expected
    assert {question.to for question in questions} == {SETTINGS.chains.host_chains[0].acl}


def test_the_repeated_handle_of_the_vectors_asks_for_both_its_contracts() -> None:
    entry = vectors.request(TWO_CONTRACTS)
    asked = [vectors.data_of(question) for question in ask(content_of(entry), vectors.facts_of(entry))]
    old = [from_hex(call["calldata"]) for call in entry["acl_calls"]]
    other = from_hex(entry["decoded"]["contract_addresses"][0])
    user, last = old[:2]
    assert asked == 2 * [user, last[:-20] + other, last]
    assert [calldata for calldata in asked if calldata in old] == old


@ids
def test_the_real_acl_says_yes_to_all(entry: dict[str, Any]) -> None:
    results = {
        from_hex(r["calldata"]): from_hex(r["result"]) for r in vectors.load()["ethereum"]["acl"]["results"]
    }
    for question in ask(content_of(entry), vectors.facts_of(entry)):
        if question.chain_id == 12345:
            question.understand(results[vectors.data_of(question)])


@pytest.mark.parametrize("name", ["public_three_v0", "user_legacy_direct_v0", "user_legacy_delegated_v0"])
def test_any_no_is_waited_for(name: str) -> None:
    entry = vectors.request(name)
    for question in ask(content_of(entry), vectors.facts_of(entry)):
        question.understand(YES)
        with pytest.raises(Denied):  # and so asked for ever more rarely
            question.understand(NO)


@pytest.mark.parametrize("handle", [b"\x01" * 31, b"\x01" * 30 + b"\xff\x00", b""])
def test_a_malformed_handle_is_rejected(handle: bytes) -> None:
    content = content_of(vectors.request("public_one_v0"))
    bad = attrs.evolve(content, references=(attrs.evolve(content.references[0], handle=handle),))
    with pytest.raises(Rejected, match="malformed handle"):
        ask(bad)
    with pytest.raises(Rejected, match="no ciphertext"):
        ask(attrs.evolve(content, references=()))


@pytest.mark.parametrize("name", ["public_four_v2_two_chains_repeated_handle", "user_unified_own_v0"])
def test_a_chain_that_is_not_configured_is_named(name: str) -> None:
    profile = Fhevm(SETTINGS.but(host_chains=()))
    with pytest.raises(Misconfigured, match="host chain 12345 is not configured"):
        ask(content_of(vectors.request(name)), profile=profile)


SOLANA = 1 << 56 | 12345
"""A chain id whose top byte says that the host chain is none of EVM (0.15: 6.1)."""


def of_chain(content: Any, chain_id: int) -> Any:
    """Return a public request about a handle of another host chain."""
    [reference] = content.references
    handle = reference.handle[:22] + chain_id.to_bytes(8) + reference.handle[30:]
    return attrs.evolve(content, references=(attrs.evolve(reference, handle=handle),))


@pytest.mark.parametrize(
    ("chain_id", "cause"),
    [(SOLANA, "not-served"), (1 << 63, "not-configured"), (2**64 - 1, "not-configured")],
)
def test_a_chain_id_is_an_unsigned_number_of_64_bits(chain_id: int, cause: str) -> None:
    content = of_chain(content_of(vectors.request("public_one_v0")), chain_id)
    with pytest.raises(Misconfigured, match=f"host chain {chain_id} is ") as refused:
        ask(content)
    assert refused.value.cause == cause
    [host, *_] = SETTINGS.chains.host_chains
    there = attrs.evolve(host, chain=attrs.evolve(host.chain, chain_id=chain_id))
    [question] = ask(content, profile=Fhevm(SETTINGS.but(host_chains=(there,))))
    assert (question.chain_id, question.to) == (chain_id, host.acl)


def test_a_delegated_handle_of_two_contracts_asks_for_every_pair() -> None:
    entry = vectors.request("user_legacy_delegated_v0")
    content = content_of(entry)
    first, *others = (reference.handle for reference in content.references)
    contracts = b"\x0a" * 20, b"\x0b" * 20
    pairs = [(first, contracts[0]), (first, contracts[1]), *((other, contracts[0]) for other in others)]
    delegator, user = b"\x0d" * 20, content.user
    calldata = DELEGATED.encode(pairs, (0, 1), (delegator, user), (1, ()), b"", b"", b"")
    facts = attrs.evolve(vectors.facts_of(entry), input=calldata)
    asked = [vectors.data_of(question) for question in ask(content, facts)]
    assert [data[-32:] for data in asked] == [handle for handle, _ in pairs]
    assert [data[-52:-32] for data in asked] == [contract for _, contract in pairs]


def test_a_legacy_request_without_its_transaction_is_rejected() -> None:
    with pytest.raises(Rejected, match="does not go to"):
        ask(content_of(vectors.request("user_legacy_direct_v0")))


# Unified requests: what their own bytes say


@unified_requests
def test_the_digest_and_the_user_s_signature(entry: dict[str, Any]) -> None:
    expected, content = entry["decoded"]["user_request_eip712"], content_of(entry)
    assert isinstance(content, UnifiedUserDecryption)
    assert expected["type"] == REQUEST_TYPE
    domain = Domain(
        "Decryption", "1", SETTINGS.chains.gateway.chain_id, SETTINGS.protocol.decryption_contract.address
    )
    assert unified_digest(domain, 12345, content) == from_hex(expected["digest"])


def test_handles_of_several_chains_or_others_than_the_references_are_rejected() -> None:
    content = content_of(TWO_HANDLES)
    assert isinstance(content, UnifiedUserDecryption)
    one, two = content.handles
    other = attrs.evolve(one, handle=b"\x01" * 32)
    for handles in ((), (one,), (two, one), (other, two)):
        with pytest.raises(Rejected, match="not the same"):
            ask(attrs.evolve(content, handles=handles))
    moved = two.handle[:22] + (12346).to_bytes(8) + two.handle[30:]
    references = (content.references[0], attrs.evolve(content.references[1], handle=moved))
    with pytest.raises(Rejected, match="several host chains"):
        ask(attrs.evolve(content, handles=(one, attrs.evolve(two, handle=moved)), references=references))


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"allowed_contracts": (content_of(UNIFIED).user,)}, Rejected, "among the allowed"),
        ({"start": NOW + 1}, NotYet, f"valid from {NOW + 1}"),
        ({"start": NOW - 11, "duration": 10}, Rejected, "expired"),
        ({"start": NOW + 1, "handles": ()}, Rejected, "not the same"),
    ],
    ids=["the user among the allowed contracts", "before its validity", "after it", "a fault for ever comes first"],
)  # fmt: skip
def test_a_request_that_does_not_hold_now(changes: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        ask(unified(**changes))


@pytest.mark.parametrize(("start", "duration"), [(NOW, 10), (NOW - 10, 10), (NOW - 5, 2**256 - 1)])
def test_both_ends_of_the_validity_are_inside(start: int, duration: int) -> None:
    assert ask(signed(start=start, duration=duration))


# Unified requests: what the host chain says


def signed(key: PrivateKey | None = None, **changes: Any) -> UnifiedUserDecryption:
    """Return the request changed, and signed by its user again."""
    content = unified(**changes)
    domain = Domain(
        "Decryption", "1", SETTINGS.chains.gateway.chain_id, SETTINGS.protocol.decryption_contract.address
    )
    user = key or PrivateKey(vectors.account("user")[1])
    return attrs.evolve(content, signature=user.sign(unified_digest(domain, 12345, content)))


def test_an_invalidation_of_exactly_the_start_passes() -> None:
    content = signed()
    invalidated = ask(content)[0]
    invalidated.understand(content.start.to_bytes(32))
    with pytest.raises(Rejected, match="invalidated"):
        invalidated.understand((content.start + 1).to_bytes(32))


def test_no_allowed_contract_is_waited_for_only_after_the_last_no() -> None:
    questions = ask(signed())
    judge(questions[:3], NO, YES, NO)
    with pytest.raises(Denied, match="for no contract"):
        questions[3].understand(NO)


def test_each_handle_needs_a_contract_of_its_own() -> None:
    questions = ask(content_of(TWO_HANDLES))
    judge(questions[:4], NO, YES, YES, YES)
    with pytest.raises(NotYet, match="for no contract"):
        questions[4].understand(NO)


def test_the_order_of_answers_does_not_matter_and_an_owner_without_right_is_waited_for() -> None:
    judge(ask(signed())[::-1], NO, YES, YES, NO)
    with pytest.raises(NotYet, match="not allowed for"):
        ask(signed())[1].understand(NO)
    assert len(ask(signed(allowed_contracts=()))) == 2, "without a list every contract is good"


# Contract wallets (ERC-1271)


STRANGER = PrivateKey(b"\x77" * 32)


def wallet(age: float = 0.0, **changes: Any) -> ContractQuery[None]:
    return ask(signed(STRANGER, **changes), Facts(chain_time=NOW, age=age))[0]


def test_a_signature_of_the_user_needs_no_question() -> None:
    assert len(ask(signed())) == len(ask(signed(STRANGER))) - 1


@pytest.mark.parametrize("signature", [b"", b"\x01", bytes(64), bytes(65), bytes(66)])
def test_what_does_not_recover_the_user_is_put_to_the_user_s_contract(signature: bytes) -> None:
    content = unified(signature=signature)
    question = ask(content)[0]
    assert (question.to, question.parameters[0]["gas"]) == (content.user, "0x3d090")
    assert vectors.data_of(question)[:4] == MAGIC_VALUE


def test_the_magic_value_is_yes_and_no_code_at_the_address_is_rejected_at_once() -> None:
    wallet().understand(MAGIC_VALUE + bytes(28))
    wallet().understand(MAGIC_VALUE + bytes(60))
    with pytest.raises(Rejected, match="no contract"):
        wallet().understand(b"")


@pytest.mark.parametrize("result", [MAGIC_VALUE, b"\0", bytes(32), b"\xff" * 32])
def test_another_answer_is_waited_for_and_rejected_after_ten_minutes(result: bytes) -> None:
    with pytest.raises(NotYet):
        wallet(age=WALLET_SIGNATURE_GRACE).understand(result)
    with pytest.raises(Rejected, match="600 s"):
        wallet(age=WALLET_SIGNATURE_GRACE + 1).understand(result)


@pytest.mark.parametrize("result", [b"", bytes(32)], ids=["no contract", "refused by its contract"])
def test_under_a_domain_that_nobody_confirms_no_signature_is_wrong_for_good(result: bytes) -> None:
    late = Facts(chain_time=NOW, age=WALLET_SIGNATURE_GRACE + 1, domain_confirmed=False)
    with pytest.raises(NotYet, match="has not confirmed its EIP-712 domain"):
        ask(signed(STRANGER), late)[0].understand(result)


@pytest.mark.parametrize(
    ("message", "data", "told"),
    [
        *(("execution reverted", data, "reverts") for data in (b"", b"\x08\xc3\x79\xa0")),
        *(
            (message, data, "more than 250000 gas")
            for data in (None, b"")
            for message in (
                "out of gas",
                "EVM error: OutOfGas",
                "out of gas: gas required exceeds: 250000",
                "err: intrinsic gas too low: have 250000, want 281000 (supplied gas 250000)",
                "insufficient gas for floor data gas cost",
                "VM execution error: OUT_OF_GAS",
                "INSUFFICIENT_GAS",
            )
        ),
    ],
)
def test_contract_that_reverts_or_burns_all_gas_says_no(message: str, data: bytes | None, told: str) -> None:
    """Whoever asked for it: as many tries as the deadline allows would be in vain, each at the operator's cost."""
    with pytest.raises(NotYet, match=told):
        wallet().refused(message, data)
    with pytest.raises(Rejected, match=told):
        wallet(age=601).refused(message, data)


@pytest.mark.parametrize(
    ("message", "data"),
    [("execution reverted", None), ("insufficient funds for gas * price + value", b""), ("busy", None)],
)
def test_another_rpc_error_is_no_answer(message: str, data: bytes | None) -> None:
    assert wallet(age=601).refused(message, data) is None
