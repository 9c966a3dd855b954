"""Which keys, CRS and objects the contracts say that a node has, and what its Core says of itself. Never asks either.

The Core copies the compressed key set of a migrated key to the key in its public storage; that the copy failed is said by nobody, and the
coprocessors would not find it. A Core keeps its objects under a prefix, which the announcement of its context names beside the storage;
coprocessors look for whatever ends with the object's path, and so take them with or without it.
Source: kms-core-grpc.md, 2, 3.2, 3.7 and 8; fhevm-0.15.md, 1.4 and 1.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import id_hex
from kmsconn.protocols.fhevm.contexts import EVENT, NewContext
from kmsconn.protocols.fhevm.keygen import COMPRESSED_KEY_SET, KEY_TYPES
from kmsconn.protocols.fhevm.views import KeyViews
from kmsconn.protocols.profile import KeysAndCrs, PublicObject
from kmsconn.protocols.protobuf import decode
from kmsconn.protocols.queries import QueryPlan

MATERIAL_METHOD, STATUS_METHOD = "GetKeyMaterialAvailability", "GetHealthStatus"
_ID_DIGITS = 64


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


def read_material(reply: bytes) -> KeysAndCrs:
    """Read what a Core has. Raises Undecodable."""
    message = decode(kms.KeyMaterialAvailabilityResponse, reply)
    return KeysAndCrs(_ids(message.fhe_key_ids), _ids(message.crs_ids))


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


# --- by the contracts


def made_material(ask: KeyViews, tx_sender: Address) -> QueryPlan[KeysAndCrs]:
    """Find all keys and CRS of a node's committee; none where it is in no context that is current."""
    [context_id] = yield [ask.config.current_context()]
    storage, keys, crs = yield [
        ask.config.node_storage(context_id, tx_sender),
        ask.generation.completed_keys(),
        ask.generation.completed_crs(),
    ]
    return KeysAndCrs(frozenset(keys), frozenset(crs)) if storage else KeysAndCrs()


HASHED_BEFORE = b"PDAT_KEY"
"""What a Core hashes before the bytes of a public key object, with SHAKE-256."""


def migrated_key_set(ask: KeyViews, tx_sender: Address) -> QueryPlan[PublicObject | None]:
    """Find the object of the key in use; None where that was not migrated, or this node is in no context that is current."""
    context_id, key_id = yield [ask.config.current_context(), ask.generation.active_key()]
    request, where, signer = yield [
        ask.generation.migration(key_id),
        ask.config.node_storage(context_id, tx_sender),
        ask.config.node_signer(context_id, tx_sender),
    ]
    if not request or not where:
        return None
    agreed, answered, (_, _, _, digests) = yield [
        ask.generation.has_consensus(request),
        ask.generation.has_answered(request, signer),
        ask.generation.key(key_id),
    ]
    found = [digest for kind, digest in digests if kind == COMPRESSED_KEY_SET]
    if not agreed or not found:
        return None
    prefix = yield from storage_prefix(ask, context_id, tx_sender)
    path = f"{KEY_TYPES[COMPRESSED_KEY_SET]}/{id_hex(key_id)}"
    places = dict.fromkeys(
        ("/".join(filter(None, (where.rstrip("/"), prefix, path))), f"{where.rstrip('/')}/{path}")
    )
    return PublicObject(key_id, tuple(places), HASHED_BEFORE, found[0], made_here=answered)


def storage_prefix(ask: KeyViews, context_id: int, tx_sender: Address) -> QueryPlan[str]:
    """Find under which prefix of its storage a node keeps its objects; empty where the announcement of the context names none."""
    [(block, _)] = yield [ask.config.anchor(context_id)]
    [logs] = yield [ask.config.announcements(context_id, block)]
    prefixes = (
        node.storage_prefix
        for context in _readable(logs)
        for node in context.nodes
        if node.tx_sender == tx_sender
    )
    return quote(next(prefixes, "").strip("/"))


def _readable(logs: Sequence[Log]) -> list[NewContext]:
    try:
        return [NewContext.read(*EVENT.decode(log.topics, log.data)) for log in logs]
    except Undecodable:
        return []
