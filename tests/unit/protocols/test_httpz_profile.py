from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kmsconn.config.parties import Httpz
from kmsconn.errors import NotYet, Rejected, Undecodable, WrongContract
from kmsconn.ethereum.abi import SELECTOR_BYTES, Log
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.protocols.httpz_rc7.contracts import (
    AUTO,
    CURRENT_KEY,
    DECRYPTION_MANAGER,
    KEY_MANAGER,
    HttpzViews,
    RequestViews,
    aborted,
)
from kmsconn.protocols.httpz_rc7.decryptions import HttpzPublicDecryption
from kmsconn.protocols.httpz_rc7.messages import PlaintextForm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.port import Facts, Meaning, Verdict
from kmsconn.protocols.profile import Coprocessor, Profile
from kmsconn.protocols.queries import ContractQuery, Instead, mapping_slot
from tests.vectors import data_of, httpz, slot_of

PROFILE: Profile = HttpzRc7(httpz.settings())
GATEWAY = httpz.settings().chains.gateway.chain_id
MANAGER, HTTPZ, KEYS = (httpz.address(name) for name in ("DecryptionManager", "HTTPZ", "KeyManager"))
SENDER, SIGNER = (parse_address(httpz.node(1)[name]) for name in ("tx_sender", "signer"))
MANAGER_VIEWS = RequestViews(GATEWAY, MANAGER, contracts.DECRYPTION_MANAGER_BASE)
KEY_VIEWS = RequestViews(GATEWAY, KEYS, contracts.KEY_MANAGER_BASE)
YES, NO = (1).to_bytes(32), bytes(32)
FACTS = Facts(0.0, 0.0, tx_sender=SENDER)
PUBLIC = httpz.log_of(httpz.exchange("bytes32", "public_decryption", "one_u64_P3"))
USER = httpz.log_of(httpz.exchange("bytes32", "user_decryption", "one_u64"))
KEY_LOGS = {entry["name"]: httpz.log_of(entry) for entry in httpz.load()["bytes32"]["key_management"]}
ALL_LOGS = [PUBLIC, USER, *KEY_LOGS.values()]


def place(question: ContractQuery[Any] | None) -> tuple[int, Address]:
    assert question is not None
    return question.chain_id, question.to


def test_every_kind_has_its_row_and_its_reply() -> None:
    kinds = {PROFILE.decode(log).kind for log in ALL_LOGS}  # type: ignore[union-attr]
    assert kinds == set(PROFILE.operations)
    assert all(PROFILE.operations[kind].kind is kind for kind in kinds)
    assert {kind for kind in kinds if PROFILE.operations[kind].expires} == {
        Kind.PUBLIC_DECRYPTION,
        Kind.USER_DECRYPTION,
    }


def test_two_contracts_of_one_gateway_are_listened_to() -> None:
    decryptions, keys = PROFILE.subscriptions()
    assert (decryptions.chain_id, decryptions.contract, decryptions.finalized) == (GATEWAY, MANAGER, False)
    assert len(decryptions.topics) == 5
    assert (keys.chain_id, keys.contract, keys.finalized) == (GATEWAY, KEYS, True)
    assert KEY_MANAGER.event("ActivateKeyRequest").topic0 not in keys.topics
    assert len(keys.topics) == 5


def test_a_wrong_contract_is_refused_under_the_option_of_this_generation() -> None:
    named = []
    for contract in PROFILE.contracts():
        with pytest.raises(WrongContract) as refused:
            contract.identity.understand(b"")
        named.append(str(refused.value).partition(":")[0])
    assert named == ["decryption_manager_address", "httpz_address", "key_manager_address"]


def test_another_domain_of_the_manager_is_refused_under_the_option_of_this_generation() -> None:
    [domain] = [one.domain for one in PROFILE.contracts() if one.domain is not None]
    told = DECRYPTION.function("eip712Domain").encode_result(
        b"\x0f", "DecryptionManager", "2", GATEWAY, MANAGER, bytes(32), ()
    )
    with pytest.raises(WrongContract, match=r"^decryption_manager_domain_version: is '1', but the EIP-712"):
        domain.understand(told)


def test_key_requests_may_count_at_once() -> None:
    hasty = HttpzRc7(httpz.settings(httpz=Httpz(key_management_at_finality=False)))
    assert [one.finalized for one in hasty.subscriptions()] == [False, False]


def test_five_counters_prove_completeness_each_for_its_kind() -> None:
    found = [one for subscription in PROFILE.subscriptions() for one in PROFILE.numberings(subscription)]
    assert [one.kind for one in found] == [
        Kind.PUBLIC_DECRYPTION,
        Kind.USER_DECRYPTION,
        Kind.PREP_KEYGEN,
        Kind.PREP_KSKGEN,
        Kind.CRSGEN,
    ]
    assert {one.tag for one in found} == {0}
    assert [place(one.newest)[1] for one in found] == [MANAGER] * 2 + [KEYS] * 3
    offsets = [slot_of(one.newest) - contracts.KEY_MANAGER_BASE for one in found[2:]]
    assert offsets == [1, 9, 20]


@pytest.mark.parametrize("log", ALL_LOGS)
def test_an_id_can_be_told_where_the_rest_cannot_be_read(log: Log) -> None:
    content = PROFILE.decode(log)
    assert content is not None
    assert PROFILE.id_of(attrs.evolve(log, data=log.data[:32])) == content.id
    assert PROFILE.id_of(attrs.evolve(log, topics=log.topics[:1], data=b"")) is None


@pytest.mark.parametrize("log", ALL_LOGS)
def test_there_are_no_contexts_windows_transactions_and_inquiries(log: Log) -> None:
    content = PROFILE.decode(log)
    assert content is not None
    assert content.context == (None, None)
    assert (
        PROFILE.context_checks(None, None),
        PROFILE.operations[content.kind].standing(content, ZERO_ADDRESS),
    ) == (None, None)
    assert PROFILE.operations[content.kind].replying_context(content) == 0
    assert (content.valid_until, PROFILE.operations[content.kind].plan(content)) == (None, None)
    assert not content.needs_transaction


def test_only_decryptions_have_ciphertexts_and_no_question_since_the_contract_has_checked_them() -> None:
    for log in ALL_LOGS:
        content = PROFILE.decode(log)
        assert content is not None
        assert len(content.references) == (len(log.topics) > 1)
        if log in (PUBLIC, USER):
            assert PROFILE.operations[content.kind].checks(content, FACTS) == ()


def test_a_decryption_without_ciphertexts_or_of_unknown_type_is_rejected() -> None:
    content = PROFILE.decode(PUBLIC)
    assert isinstance(content, HttpzPublicDecryption)
    with pytest.raises(Rejected, match="no ciphertext"):
        PROFILE.operations[content.kind].checks(attrs.evolve(content, references=()), FACTS)
    strange = attrs.evolve(content.references[0], handle=bytes(30) + b"\x0c\0")
    with pytest.raises(Rejected, match="FHE type 12"):
        PROFILE.operations[content.kind].checks(attrs.evolve(content, references=(strange,)), FACTS)


@pytest.mark.parametrize(("name", "answers"), [("keygen", 4), ("kskgen", 12)])
def test_a_key_waits_until_this_node_has_told_that_it_is_prepared(name: str, answers: int) -> None:
    content = PROFILE.decode(KEY_LOGS[name])
    assert content is not None
    (question,) = PROFILE.operations[content.kind].checks(content, FACTS)
    told = KEY_VIEWS.has_answered(answers, content.id, SENDER)
    assert (place(question), slot_of(question)) == ((GATEWAY, KEYS), slot_of(told))
    question.understand(YES)
    with pytest.raises(NotYet, match="is prepared"):
        question.understand(NO)


@pytest.mark.parametrize("name", ["preprocess_keygen", "preprocess_kskgen", "crsgen"])
def test_other_key_requests_wait_for_nothing(name: str) -> None:
    content = PROFILE.decode(KEY_LOGS[name])
    assert content is not None
    assert PROFILE.operations[content.kind].checks(content, FACTS) == ()


def slots(log: Log) -> int:
    content = PROFILE.decode(log)
    assert content is not None
    found = PROFILE.operations[content.kind].has_answered(content, SIGNER, SENDER)
    assert found is not None
    return slot_of(found)


def test_an_answer_is_told_by_signer_or_by_sender_and_product() -> None:
    identifiers = {log: PROFILE.id_of(log) or 0 for log in ALL_LOGS}
    assert slots(PUBLIC) == slot_of(MANAGER_VIEWS.has_answered(2, identifiers[PUBLIC], SIGNER))
    assert slots(USER) == slot_of(MANAGER_VIEWS.has_answered(7, identifiers[USER], SIGNER))
    places = {"preprocess_keygen": 4, "keygen": 6, "preprocess_kskgen": 12, "kskgen": 16, "crsgen": 22}
    for name, log in KEY_LOGS.items():
        expected = KEY_VIEWS.has_answered(places[name], identifiers[log], SENDER)
        assert slots(log) == slot_of(expected)
    assert len({slots(log) for log in ALL_LOGS}) == len(ALL_LOGS)


def test_httpz_is_asked_for_nodes_and_coprocessors() -> None:
    for question in (
        PROFILE.operations[Kind.CRSGEN].node_signer(0, SENDER),
        PROFILE.registry.coprocessor_senders(),
        PROFILE.registry.coprocessor(SENDER),
        PROFILE.registry.coprocessor_threshold(),
    ):
        assert place(question) == (GATEWAY, HTTPZ)


def test_a_centralised_core_is_not_asked_to_prepare() -> None:
    profile: Profile = HttpzRc7(httpz.settings(httpz=Httpz(preprocessing=False)))
    for name, log in KEY_LOGS.items():
        content = profile.decode(log)
        assert content is not None
        skipped = name.startswith("preprocess")
        assert (profile.operations[content.kind].start_calls(content, None) == ()) == skipped
        assert (profile.operations[content.kind].result_call(content) is None) == skipped
    prepared = profile.decode(KEY_LOGS["preprocess_keygen"])
    assert prepared is not None
    answer = profile.operations[prepared.kind].read_answer(prepared, None, None)
    assert answer is not None
    expected = httpz.exchange("bytes32", "key_management", "preprocess_keygen")["reply"]["calldata"]
    assert answer.calldata == from_hex(expected)


@pytest.mark.parametrize(
    ("encoding", "forms"), [("auto", AUTO), ("p1", (PlaintextForm.P1,)), ("raw", (PlaintextForm.RAW,))]
)
def test_the_forms_of_public_results_are_configured(encoding: str, forms: tuple[PlaintextForm, ...]) -> None:
    profile = HttpzRc7(httpz.settings(httpz=Httpz(plaintext_encoding=encoding)))
    assert tuple(profile.deployment.forms) == forms


def test_reverts_are_read_by_the_reply_of_their_kind() -> None:
    done = KEY_MANAGER.error("CrsgenKmsNodeAlreadyResponded").encode(3)
    assert PROFILE.operations[Kind.CRSGEN].revert(done).verdict is Verdict.DONE
    assert PROFILE.operations[Kind.KEYGEN].revert(done).verdict is Verdict.RETRY
    responded = DECRYPTION_MANAGER.error("KmsSignerAlreadyResponded").encode(1, bytes(20))
    for kind in (Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION):
        assert PROFILE.operations[kind].revert(responded).verdict is Verdict.DONE


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Could not insert decryption into meta store: The element with ID 0000", Meaning.SUCCESS),
        ("Could not insert decryption into meta store: Error in storing: full", None),
        ("Could not insert decryption into meta store: something else", Meaning.REFUSED),
        ("Cannot find centralized keys for id 07", Meaning.REFUSED),
        ("", Meaning.REFUSED),
    ],
)
def test_what_aborted_means_on_a_start_call(text: str, meaning: Meaning | None) -> None:
    assert aborted(text) is meaning


def test_no_node_has_the_zero_address() -> None:
    question = PROFILE.operations[Kind.KEYGEN].node_signer(0, ZERO_ADDRESS)
    assert data_of(question).endswith(ZERO_ADDRESS)


REGISTRY = HttpzViews(54321, httpz.address("HTTPZ"))
COMMITS = sorted(httpz.load()["views"])
UNKNOWN = parse_address("0x31De9c8ac5ECD5EacEddDdEE531e9BaD8AC9c2A5")
every_commit = pytest.mark.parametrize("commit", COMMITS)


def recorded(commit: str, data: bytes) -> dict[str, Any]:
    (found,) = [one for one in httpz.load()["views"][commit] if from_hex(one["call_data"]) == data]
    return dict(found)


def answer(commit: str, view: Any) -> Any:
    """Put a view to the recorded contract of a commit, as ``chain.asking`` does."""
    found = recorded(commit, data_of(view))
    try:
        if "error" in found:
            return view.refused(found["error"]["message"], from_hex(found["error"]["data"]))
        return view.understand(from_hex(found["result"]))
    except Instead as other:
        return answer(commit, other.question)


@every_commit
def test_coprocessors_and_signers_are_found_by_whichever_getter_there_is(commit: str) -> None:
    entry, node = httpz.load()["keys"]["coprocessors"][0], httpz.node(1)
    sender, signer = parse_address(entry["tx_sender"]), parse_address(entry["signer"])
    expected = Coprocessor(sender, signer, entry["s3BucketUrl"])
    assert answer(commit, REGISTRY.coprocessor(sender)) == expected
    assert answer(commit, REGISTRY.coprocessor(UNKNOWN)) == Coprocessor(ZERO_ADDRESS, ZERO_ADDRESS, "")
    found = answer(commit, REGISTRY.node_signer(parse_address(node["tx_sender"])))
    assert found == parse_address(node["signer"])


def test_a_coprocessor_of_rc4_is_four_flat_values_and_a_stranger_no_node() -> None:
    of_rc4 = contracts.RC4["HTTPZ"].function("coprocessors")
    result = of_rc4.encode_result(UNKNOWN, b"identity", "da", "http://b/ct")
    expected = Coprocessor(UNKNOWN, ZERO_ADDRESS, "http://b/ct")
    assert REGISTRY.coprocessor(UNKNOWN).understand(result) == expected
    nobody = contracts.HTTPZ.function("kmsNodes").encode_result((ZERO_ADDRESS, ZERO_ADDRESS, ""))
    assert REGISTRY.node_signer(UNKNOWN).understand(nobody) == ZERO_ADDRESS


def test_the_senders_by_either_name() -> None:
    first = REGISTRY.coprocessor_senders()
    result = contracts.RC9.function("getCoprocessorTxSenders").encode_result((UNKNOWN,))
    with pytest.raises(Instead) as other:
        first.refused("execution reverted", None)
    assert other.value.question.understand(result) == (UNKNOWN,)
    assert first.understand(result) == (UNKNOWN,)


def test_nothing_at_all_asks_by_the_other_name_and_is_then_unreadable() -> None:
    with pytest.raises(Instead) as other:
        REGISTRY.coprocessor(UNKNOWN).understand(b"")
    with pytest.raises(Undecodable):
        other.value.question.understand(b"")


@pytest.mark.parametrize(
    ("message", "data"), [("execution reverted", b"\x01\x02"), ("too many requests", None)]
)
def test_other_refusals_do_not_say_that_the_name_is_wrong(message: str, data: bytes | None) -> None:
    assert REGISTRY.coprocessor(UNKNOWN).refused(message, data) is None


@every_commit
def test_reads_of_the_other_contracts(commit: str) -> None:
    seen = 0
    for entry in httpz.load()["views"][commit]:
        data = from_hex(entry["call_data"])
        question = READS.get(data[:SELECTOR_BYTES])
        if question is not None and "result" in entry:
            view = question(int.from_bytes(data[SELECTOR_BYTES:]))
            assert data_of(view) == data
            (expected,) = entry["decoded"]
            assert view.understand(from_hex(entry["result"])) == (
                int(expected, 16) if isinstance(expected, str) else expected
            )
            seen += 1
    assert seen == 2


READS: dict[bytes, Callable[[int], ContractQuery[Any]]] = {
    CURRENT_KEY.selector: lambda _: KEY_VIEWS.view(CURRENT_KEY)
}


def test_the_threshold_is_a_number() -> None:
    assert REGISTRY.coprocessor_threshold().understand((2).to_bytes(32)) == 2


def test_the_bases_of_annex_c() -> None:
    assert (
        contracts.DECRYPTION_MANAGER_BASE
        == 0x13FA45E3E06DD5C7291D8698D89AD1FD40BC82F98A605FA4761EA2B538C8DB00
    )
    assert contracts.KEY_MANAGER_BASE == 0xFFC36E080F83A3804864597CBF64ED4BB7DB029C2482537359268813D6214200


def test_the_counters_of_annex_c() -> None:
    newest = [PROFILE.operations[kind].numbering() for kind in (Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION)]
    questions: list[Any] = [one.newest for one in newest if one is not None]
    assert [slot_of(one) - contracts.DECRYPTION_MANAGER_BASE for one in questions] == [1, 6]
    assert [one.understand((7).to_bytes(32)) for one in questions] == [7, 7]


@pytest.mark.parametrize("at", [2, 7])
def test_an_answer_is_found_by_id_and_signer(at: int) -> None:
    signer = Address(b"\x01" * 20)
    found = MANAGER_VIEWS.has_answered(at, 5, signer)
    assert slot_of(found) == mapping_slot(mapping_slot(contracts.DECRYPTION_MANAGER_BASE + at, 5), signer)
    assert [found.understand(bytes(32)), found.understand((1).to_bytes(32))] == [False, True]
