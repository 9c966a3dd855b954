"""``KMSGeneration`` on Ethereum: key and CRS generation, and migrations; emits E1 to E5. Knows no node and no block.

Storage is laid out as in the real contract (fhevm-0.14.md, E.2). The requests and aborts, which only the owner makes there, are knobs;
replies are taken in ``generation_rules``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kmsconn.emulator.contracts import generation_rules as at
from kmsconn.emulator.contracts import protocol_config
from kmsconn.emulator.contracts.contract import AbiContract, Handler, count, domain_teller, is_set, set_once
from kmsconn.emulator.contracts.generation_releases import (
    MIGRATING_0_3,
    GenerationRelease,
    named_pair,
    release_of,
)
from kmsconn.emulator.contracts.generation_rules import (
    EmulatedGenerationViews,
    GenerationReplies,
    begin_migration,
    check_migration,
)
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.execution import Frame, Reverted, revert
from kmsconn.ethereum.abi import Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import make_id
from kmsconn.protocols.fhevm.contracts import DECRYPTION, KMS_GENERATION, LATER_KMS_GENERATION
from kmsconn.protocols.queries import mapping_slot

_FIRST_KEYGEN = Function.from_item({"name": "keygen", "inputs": ({"type": "uint8"},), "outputs": ()})
"""The function with which the owner of 0.2.0 begins a key."""


class KmsGeneration(AbiContract):
    """The contract. The methods without underscore are knobs (for ``Chain.set_up`` and ``Chain.act``).

    It begins as 0.2.0 of the tag v0.14.0; what only its owner may call there, anybody may call here.
    """

    def __init__(self, address: Address, chain_id: int, config: ProtocolConfig) -> None:
        self.domain = Domain("KMSGeneration", "1", chain_id, address)
        self._config, views = config, EmulatedGenerationViews(config)
        replies = GenerationReplies(self.domain, config, views)
        super().__init__(address, LATER_KMS_GENERATION, {**replies.handlers, **views.handlers, **self._owned})
        self.offer(_FIRST_KEYGEN, partial(self._keygen, migrates=False))
        self.offer(DECRYPTION.function("eip712Domain"), domain_teller(self.domain))

    @property
    def _owned(self) -> dict[str, Handler]:
        return {
            "keygen": partial(self._keygen, migrates=True),
            "crsgenRequest": lambda *given: _without_result(self.request_crsgen, *given),
            "abortKeygen": self.abort_keygen,
            "abortCrsgen": self.abort_crsgen,
        }

    def _keygen(self, frame: Frame, params: int, existing: int = 0, *, migrates: bool) -> None:
        """Begin a key by the function that the release has. Raises Reverted, without data for the function of another one."""
        if release_of(frame).migrates is not migrates:
            raise Reverted
        self.request_keygen(frame, params, existing)

    def initialize(self, frame: Frame) -> None:
        """Set the counters to their bare tags, as a fresh deployment does."""
        for slot, tag in (
            (at.PREP_COUNTER, at.PREP_TAG),
            (at.KEY_COUNTER, at.KEY_TAG),
            (at.CRS_COUNTER, at.CRS_TAG),
        ):
            frame.store(slot, make_id(tag, 0))

    def upgrade(self, frame: Frame, release: GenerationRelease = MIGRATING_0_3) -> None:
        """Run another release from here on, whatever ceremony is open."""
        frame.write(release, "release")

    def request_keygen(self, frame: Frame, params: int = 0, existing: int = 0) -> int:
        """Begin a key, or the migration of an existing one: take both ids and emit E1; return the prep-keygen id.

        Raises Reverted while another is open, and for what cannot be migrated.
        """
        release = release_of(frame)
        self._check_finished(frame, at.KEY_COUNTER, "KeygenOngoing")
        if existing and not release.migrates:
            raise Reverted
        if existing:
            check_migration(frame, params, existing)
        prep_id, key_id = (count(frame, slot) for slot in (at.PREP_COUNTER, at.KEY_COUNTER))
        frame.store(mapping_slot(at.PAIR, prep_id), key_id)
        frame.store(mapping_slot(at.PAIR, key_id), prep_id)
        if existing:
            begin_migration(frame, key_id, existing)
        extra_data = self._name_current(frame, prep_id, key_id)
        frame.write(params, "params", key_id)
        frame.emit(release.event("PrepKeygenRequest"), prep_id, params, *release.named(existing), extra_data)
        return prep_id

    def request_crsgen(self, frame: Frame, max_bit_length: int = 2048, params: int = 0) -> int:
        """Begin a CRS and emit E3; return its id. Raises Reverted while another is open."""
        self._check_finished(frame, at.CRS_COUNTER, "CrsgenOngoing")
        crs_id = count(frame, at.CRS_COUNTER)
        extra_data = self._name_current(frame, crs_id)
        frame.write(max_bit_length, "bits", crs_id)
        frame.emit(KMS_GENERATION.event("CrsgenRequest"), crs_id, max_bit_length, params, extra_data)
        return crs_id

    def abort_keygen(self, frame: Frame, prep_id: int) -> None:
        """End a key that is not done, with its preprocessing; emits E4. Raises Reverted."""
        if not make_id(at.PREP_TAG, 0) < prep_id <= frame.load(at.PREP_COUNTER):
            revert(KMS_GENERATION.error("AbortKeygenInvalidId"), prep_id)
        key_id = frame.load(mapping_slot(at.PAIR, prep_id))
        if is_set(frame, at.DONE, key_id):
            revert(KMS_GENERATION.error("AbortKeygenAlreadyDone"), prep_id)
        for request in (prep_id, key_id):
            set_once(frame, at.DONE, request)
        frame.emit(KMS_GENERATION.event("AbortKeygen"), prep_id)

    def abort_crsgen(self, frame: Frame, crs_id: int) -> None:
        """End a CRS that is not done; emits E5. Raises Reverted."""
        if not make_id(at.CRS_TAG, 0) < crs_id <= frame.load(at.CRS_COUNTER):
            revert(KMS_GENERATION.error("AbortCrsgenInvalidId"), crs_id)
        if is_set(frame, at.DONE, crs_id):
            revert(KMS_GENERATION.error("AbortCrsgenAlreadyDone"), crs_id)
        set_once(frame, at.DONE, crs_id)
        frame.emit(KMS_GENERATION.event("AbortCrsgen"), crs_id)

    def _check_finished(self, frame: Frame, counter: int, error: str) -> None:
        newest = frame.load(counter)
        if newest != make_id(newest >> at.TAG_SHIFT, 0) and not is_set(frame, at.DONE, newest):
            revert(KMS_GENERATION.error(error), newest)

    def _name_current(self, frame: Frame, *requests: int) -> bytes:
        """Keep with the requests the context and epoch that are current now."""
        there = frame.at(self._config.address)
        active = (protocol_config.ACTIVE_CONTEXT, protocol_config.ACTIVE_EPOCH)
        extra_data = named_pair(*(there.load(slot) for slot in active))
        for request in requests:
            frame.write(extra_data, "extra_data", request)
        return extra_data


def _without_result(knob: Callable[..., object], *given: Any) -> None:
    """Turn a knob as a function of the contract that returns nothing."""
    knob(*given)
