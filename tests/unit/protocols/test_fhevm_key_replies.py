"""Answers to key management: the replies and signers of the vectors, and Broken for whatever no honest Core says."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import (
    CrsGenResult,
    EpochResultResponse,
    KeyGenPreprocResult,
    KeyGenResult,
)
from kmsconn.errors import Broken, Rejected, Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm.contracts import FINALIZED, KeyViews, Standing
from kmsconn.protocols.protobuf import decode
from tests import vectors
from tests.vectors import keys

MESSAGES: dict[str, Any] = {
    "prep_keygen_default": KeyGenPreprocResult,
    "keygen_default": KeyGenResult,
    "crsgen_test_2048": CrsGenResult,
    "epoch_2_context_switch": EpochResultResponse,
}


def reply_of(name: str, node: int = 0) -> bytes:
    return from_hex(keys.event(name)["answers"][node]["response_bytes"])


def read(name: str, reply: bytes | None) -> Any:
    return keys.PROFILE.operations[keys.content(name).kind].read_answer(keys.content(name), reply, None)


def spoilt(name: str, spoil: Any) -> bytes:
    message: Any = decode(MESSAGES[name], reply_of(name))
    spoil(message)
    return bytes(message)


@pytest.mark.parametrize(
    ("name", "answer"), keys.answers(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_reply_is_that_which_the_contract_took(name: str, answer: dict[str, Any]) -> None:
    response = answer["response_bytes"]
    found = read(name, None if response is None else from_hex(response))
    assert found.calldata == from_hex(answer["reply"]["calldata"])
    signer, _ = vectors.account(f"signer{answer['node']}")
    assert found.signer == (None if name == "context_2_new" else signer)


@pytest.mark.parametrize("name", ["abort_keygen", "abort_crsgen", "context_1_destroyed"])
def test_what_only_ends_something_has_no_reply(name: str) -> None:
    assert read(name, None) is None


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_an_answer_that_is_cut_off_or_empty_is_broken(name: str) -> None:
    with pytest.raises(Broken):
        read(name, reply_of(name)[:-1])
    if MESSAGES[name] is not EpochResultResponse:
        with pytest.raises(Broken, match="names another request"):
            read(name, b"")


SPOILT: list[tuple[str, str, Any, str]] = [
    # whose answer, what of it, what it becomes, what is told
    ("prep_keygen_default", "preprocessing_id.request_id", f"{9:064x}", "names"),
    ("keygen_default", "request_id.request_id", f"{9:064x}", "names"),
    ("keygen_default", "preprocessing_id.request_id", f"{9:064x}", "names"),
    ("crsgen_test_2048", "request_id.request_id", f"{9:064x}", "names"),
    *(
        ("keygen_default", "request_id.request_id", text, "names another request")
        for text in ("", "0x04", "Z" * 64, "+" + "0" * 63)
    ),
    *(
        (name, "external_signature", bytes(64), "64 bytes")
        for name in ("prep_keygen_default", "keygen_default", "crsgen_test_2048")
    ),
    ("keygen_default", "key_digests.0.key_type", "DecompressionKey", "DecompressionKey"),
    ("crsgen_test_2048", "max_num_bits", 1024, "1024 bits, not 2048"),
]


@pytest.mark.parametrize(("name", "place", "value", "told"), SPOILT)
def test_a_part_that_no_honest_core_says_is_broken(name: str, place: str, value: Any, told: str) -> None:
    def spoil(message: Any) -> None:
        *way, last = place.split(".")
        for part in way:
            message = message[int(part)] if part.isdigit() else getattr(message, part)
        setattr(message, last, value)

    with pytest.raises(Broken, match=told):
        read(name, spoilt(name, spoil))


@pytest.mark.parametrize("field", ["reshare_responses", "crs_responses"])
def test_an_epoch_without_key_or_crs_is_rejected(field: str) -> None:
    """No contract takes it (annex A)."""

    def spoil(message: Any) -> None:
        getattr(message, field).clear()

    with pytest.raises(Rejected, match="cannot be activated"):
        read("epoch_2_context_switch", spoilt("epoch_2_context_switch", spoil))


def test_an_epoch_signed_by_two_nodes_is_broken() -> None:
    other: Any = decode(EpochResultResponse, reply_of("epoch_2_context_switch", 1))

    def spoil(message: Any) -> None:
        message.crs_responses = other.crs_responses

    with pytest.raises(Broken, match="2 different signers"):
        read("epoch_2_context_switch", spoilt("epoch_2_context_switch", spoil))


def test_the_arrays_of_an_activation_are_in_the_order_of_the_answer() -> None:
    """The contract hashes them in their order, and all nodes must agree (2.5)."""
    answer: Any = decode(EpochResultResponse, reply_of("epoch_3_same_set"))
    assert len(answer.crs_responses) == 2
    answer.crs_responses.reverse()
    straight = read("epoch_3_same_set", reply_of("epoch_3_same_set"))
    turned = read("epoch_3_same_set", bytes(answer))
    assert turned.calldata != straight.calldata
    assert len(turned.calldata) == len(straight.calldata)


SETTINGS = keys.SETTINGS
ASK = KeyViews.at(
    SETTINGS.chains.ethereum.chain_id,
    SETTINGS.protocol.kms_generation_contract.address,
    SETTINGS.protocol.protocol_config_contract.address,
)
READS = vectors.load()["ethereum"]["storage"]["reads"]


def _address(text: str) -> Address:
    return Address(from_hex(text))


SLOTS: dict[tuple[str, str], Any] = {
    ("KMSGeneration", "base+4"): lambda _: ASK.generation.newest_prep_id(),
    ("KMSGeneration", "base+9"): lambda _: ASK.generation.newest_crs_id(),
    ("KMSGeneration", "base+1["): lambda read: ASK.generation.is_over(int(read["id"], 16)),
    ("KMSGeneration", "base+3["): lambda read: ASK.generation.has_consensus(int(read["id"], 16)),
    ("KMSGeneration", "base+0["): lambda read: ASK.generation.has_answered(
        int(read["id"], 16), _address(read["signer"])
    ),
    ("ProtocolConfig", "base+0 "): lambda _: ASK.config.newest_context_id(),
    ("ProtocolConfig", "base+12"): lambda _: ASK.config.newest_epoch_id(),
    ("ProtocolConfig", "base+14["): lambda read: ASK.config.context_standing(int(read["id"], 16)),
    ("ProtocolConfig", "base+10["): lambda read: ASK.config.is_context_destroyed(int(read["id"], 16)),
    ("ProtocolConfig", "base+15["): lambda read: ASK.config.epoch_standing(int(read["id"], 16)),
    ("ProtocolConfig", "base+16["): lambda read: ASK.config.context_of_epoch(int(read["id"], 16)),
    ("ProtocolConfig", "base+17["): lambda read: ASK.config.has_confirmed_context(
        int(read["id"], 16), _address(read["sender"])
    ),
    ("ProtocolConfig", "base+18["): lambda read: ASK.config.has_confirmed_epoch(
        int(read["id"], 16), _address(read["signer"])
    ),
}
NOT_ASKED = ("base+5 newest key id", "base+6[", "base+11 ", "base+13 ")
ASKED = [read for read in READS if not read["what"].startswith(NOT_ASKED)]


def test_every_recorded_slot_is_asked_for_or_named_here() -> None:
    assert len(ASKED) == len(READS) - 5


@pytest.mark.parametrize("read", ASKED, ids=lambda read: f"{read['contract']} {read['what']}")
def test_every_slot_is_that_of_the_real_contract(read: dict[str, Any]) -> None:
    [make] = [
        make for (contract, what), make in SLOTS.items()
        if contract == read["contract"] and f"{read['what']} ".startswith(what)
    ]  # fmt: skip
    slot = make(read)
    assert slot.parameters[1] == read["slot"]
    assert int(slot.understand(from_hex(read["value"]))) == min(
        int(read["value"], 16), 1 if isinstance(slot.understand(bytes(32)), bool) else 1 << 256
    )


def test_the_counters_of_the_proof_are_those_of_the_finalized_block() -> None:
    """The reader goes no further; a counter of the head would miss what it has not reached yet."""
    for slot in (
        ASK.generation.newest_prep_id(),
        ASK.generation.newest_crs_id(),
        ASK.config.newest_context_id(),
    ):
        assert slot.parameters[2] == FINALIZED


@pytest.mark.parametrize("value", range(4))
def test_a_standing_has_four_values(value: int) -> None:
    assert ASK.config.context_standing(1).understand(value.to_bytes(32)) == Standing(value)


def test_a_standing_of_no_sense_is_no_answer() -> None:
    with pytest.raises(Undecodable):
        ASK.config.context_standing(1).understand((4).to_bytes(32))


MADE: dict[str, Any] = {
    "getKmsContextAnchor": lambda entry, _: ASK.config.anchor(int(entry["call"]["data"][10:], 16)),
    "getCompletedKeyIds": lambda _, block: ASK.generation.completed_keys(block=block),
    "getCompletedCrsIds": lambda _, block: ASK.generation.completed_crs(block=block),
    "getKeyInfo": lambda entry, block: ASK.generation.key(int(entry["call"]["data"][10:], 16), block=block),
    "getCrsMaterials": lambda entry, block: ASK.generation.crs_digest(
        int(entry["call"]["data"][10:], 16), block=block
    ),
    "getCurrentKmsContextAndEpoch": lambda _entry, _block: ASK.config.current_context(),
}
CALLED = [entry for entry in keys.views() if entry["function"].split("(")[0] in MADE]


@pytest.mark.parametrize("entry", CALLED, ids=lambda entry: f"{entry['stage'][:12]} {entry['function']}")
def test_every_view_is_asked_as_recorded_at_its_block(entry: dict[str, Any]) -> None:
    block = 0 if entry["block"] == "latest" else int(entry["block"], 16)
    view = MADE[entry["function"].split("(")[0]](entry, block)
    method, (message, at) = view.method, view.parameters
    assert (method, message["data"], at) == ("eth_call", entry["call"]["data"], entry["block"])
    assert from_hex(message["to"]) == from_hex(entry["call"]["to"])
    view.understand(from_hex(entry["result"]))


def test_announcements_are_asked_for_by_the_id_of_the_context() -> None:
    question = ASK.config.announcements(7 << 248 | 1, 12)
    method, (criteria,) = question.method, question.parameters
    first = keys.log("context_1_first")
    assert method == "eth_getLogs"
    assert (criteria["fromBlock"], criteria["toBlock"]) == ("0xc", "0xc")
    assert [from_hex(topic) for topic in criteria["topics"]] == list(first.topics[:2])
    assert question.understand([first]) == (first,)
    assert question.refused("busy", None) is None
