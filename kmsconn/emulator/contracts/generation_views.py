"""The view functions of ``KMSGeneration``. They change nothing.

Source: fhevm-0.14.md, E.2; fhevm-0.15.md, 1.3 and 1.4.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.emulator.contracts import generation_slots as at
from kmsconn.emulator.contracts.contract import Handler
from kmsconn.emulator.contracts.generation_releases import release_of
from kmsconn.emulator.contracts.migrations import check_complete, check_generated, material_request
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.execution import Frame
from kmsconn.protocols.queries import mapping_slot


@attrs.frozen
class EmulatedGenerationViews:
    """The handlers of the views; the storage of nodes is told by ``config``."""

    _config: ProtocolConfig

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers by the functions of the contract."""
        return {
            "getKeyCounter": lambda frame: (frame.load(at.KEY_COUNTER),),
            "getCrsCounter": lambda frame: (frame.load(at.CRS_COUNTER),),
            "getActiveKeyId": lambda frame: (frame.read("active", at.KEY_TAG, default=0),),
            "getActiveCrsId": lambda frame: (frame.read("active", at.CRS_TAG, default=0),),
            "getCompletedKeyIds": lambda frame: (frame.read("completed", at.KEY_TAG, default=()),),
            "getCompletedCrsIds": lambda frame: (frame.read("completed", at.CRS_TAG, default=()),),
            "getConsensusTxSenders": lambda frame, i: (consensus_senders(frame, i),),
            "getKeyInfo": self._key_info,
            "getKeyMaterials": self._key_materials,
            "getKeyParamsType": self._key_params,
            "getCrsMaterials": self._crs_materials,
            "isRequestDone": lambda frame, i: (bool(frame.load(mapping_slot(at.DONE, i))),),
            "getVersion": lambda frame: (release_of(frame).version,),
        }

    def urls(self, frame: Frame, request: int) -> tuple[str, ...]:
        """Return the storage of those whose replies completed a request."""
        context_id = int.from_bytes(frame.read("extra_data", request)[at.CONTEXT])
        committee = self._config.committee(frame.at(self._config.address), context_id)
        return tuple(committee.of_sender(one).storage_url for one in consensus_senders(frame, request))

    def _key_info(self, frame: Frame, key_id: int) -> tuple[Any, ...]:
        check_generated(frame, key_id)
        prep_id, params = frame.load(mapping_slot(at.PAIR, key_id)), frame.read("params", key_id)
        return ((prep_id, key_id, params, frame.read("material", key_id)),)

    def _key_materials(self, frame: Frame, key_id: int) -> tuple[Any, ...]:
        check_generated(frame, key_id)
        return self.urls(frame, material_request(frame, key_id)), frame.read("material", key_id)

    def _key_params(self, frame: Frame, key_id: int) -> tuple[Any, ...]:
        check_generated(frame, key_id)
        return (frame.read("params", key_id),)

    def _crs_materials(self, frame: Frame, crs_id: int) -> tuple[Any, ...]:
        check_complete(frame, crs_id, "CrsAborted", "CrsNotGenerated")
        return self.urls(frame, crs_id), frame.read("material", crs_id)


def consensus_senders(frame: Frame, request: int) -> tuple[Any, ...]:
    """Return who sent the replies that completed a request."""
    digest = frame.load(mapping_slot(at.DIGEST, request)).to_bytes(32)
    found: tuple[Any, ...] = frame.read("senders", request, digest, default=())
    return found
