"""Slots and views of the two contracts on Ethereum, as the real ones have them (annex E.2)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm.key_views import FINALIZED, KeyViews, Standing
from tests import vectors
from tests.vectors import keys

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
    assert slot.call()[1][1] == read["slot"]
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
        assert slot.call()[1][2] == FINALIZED


@pytest.mark.parametrize("value", range(4))
def test_a_standing_has_four_values(value: int) -> None:
    assert ASK.config.context_standing(1).understand(value.to_bytes(32)) == Standing(value)


def test_a_standing_of_no_sense_is_no_answer() -> None:
    with pytest.raises(Undecodable):
        ASK.config.context_standing(1).understand((4).to_bytes(32))


MADE: dict[str, Any] = {
    "getKmsContextAnchor": lambda entry, _: ASK.config.anchor(int(entry["call"]["data"][10:], 16)),
    "getCompletedKeyIds": lambda _, block: ASK.generation.completed_keys(block),
    "getCompletedCrsIds": lambda _, block: ASK.generation.completed_crs(block),
    "getKeyInfo": lambda entry, block: ASK.generation.key(int(entry["call"]["data"][10:], 16), block),
    "getCrsMaterials": lambda entry, block: ASK.generation.crs_digest(
        int(entry["call"]["data"][10:], 16), block
    ),
    "getCurrentKmsContextAndEpoch": lambda _entry, _block: ASK.config.current_context(),
}
CALLED = [entry for entry in keys.views() if entry["function"].split("(")[0] in MADE]


@pytest.mark.parametrize("entry", CALLED, ids=lambda entry: f"{entry['stage'][:12]} {entry['function']}")
def test_every_view_is_asked_as_recorded_at_its_block(entry: dict[str, Any]) -> None:
    block = 0 if entry["block"] == "latest" else int(entry["block"], 16)
    view = MADE[entry["function"].split("(")[0]](entry, block)
    method, (message, at) = view.call()
    assert (method, message["data"], at) == ("eth_call", entry["call"]["data"], entry["block"])
    assert from_hex(message["to"]) == from_hex(entry["call"]["to"])
    view.understand(from_hex(entry["result"]))


def test_announcements_are_asked_for_by_the_id_of_the_context() -> None:
    question = ASK.config.announcements(7 << 248 | 1, 12)
    method, (criteria,) = question.call()
    first = keys.log("context_1_first")
    assert method == "eth_getLogs"
    assert (criteria["fromBlock"], criteria["toBlock"]) == ("0xc", "0xc")
    assert [from_hex(topic) for topic in criteria["topics"]] == list(first.topics[:2])
    assert question.understand([first]) == (first,)
    assert question.refused("busy", None) is None
    assert attrs.evolve(question, block=13).call()[1][0]["fromBlock"] == "0xd"
