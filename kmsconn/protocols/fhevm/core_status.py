"""What a Core says of itself when it is asked what it has: keys, CRS, contexts, peers. Never asks it.

Source: kms-core-grpc.md, 2 and 3.7.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import decode

MATERIAL_METHOD, STATUS_METHOD = "GetKeyMaterialAvailability", "GetHealthStatus"
_ID_DIGITS = 64


@attrs.frozen
class CoreMaterial:
    """The keys and CRS that a Core has, by their ids."""

    keys: frozenset[int]
    crs: frozenset[int]


@attrs.frozen
class CorePeers:
    """A context of a Core with how many of its nodes the Core reaches, itself included, and how many it needs."""

    context_id: int
    reachable: int
    needed: int
    silent: tuple[str, ...] = ()
    """The peers that it does not reach, by their addresses."""


@attrs.frozen
class CoreStatus:
    """Whether a Core is one of several, and its contexts; a centralised Core names none."""

    threshold: bool
    contexts: tuple[CorePeers, ...]


def read_material(reply: bytes) -> CoreMaterial:
    """Read what a Core has. Raises Undecodable."""
    message = decode(kms.KeyMaterialAvailabilityResponse, reply)
    return CoreMaterial(_ids(message.fhe_key_ids), _ids(message.crs_ids))


def read_status(reply: bytes) -> CoreStatus:
    """Read which contexts and peers a Core has. Raises Undecodable."""
    message = decode(kms.HealthStatusResponse, reply)
    threshold = message.node_type == kms.NodeType.THRESHOLD
    return CoreStatus(threshold, tuple(map(_peers, message.peers_from_all_contexts)))


def _peers(one: kms.PeersFromContext) -> CorePeers:
    context_id = "" if one.context_id is None else one.context_id.request_id
    silent = tuple(peer.endpoint for peer in one.peers if not peer.reachable)
    return CorePeers(_id(context_id), one.nodes_reachable, one.threshold_required, silent)


def _ids(texts: Iterable[str]) -> frozenset[int]:
    return frozenset(map(_id, texts))


def _id(text: str) -> int:
    digits = text.strip().removeprefix("0x")
    try:
        if len(digits) == _ID_DIGITS:
            return int(digits, 16)
    except ValueError:
        pass
    raise Undecodable(f"an id of the Core is not {_ID_DIGITS} hex digits")
