"""Where the compressed key set of a migrated key must lie, and what its digest is. Never fetches it.

The Core copies it to the key in its public storage; that the copy failed is said by nobody, and the coprocessors would not find it. A Core
keeps its objects under a prefix, which the announcement of its context names beside the storage; coprocessors look for whatever ends with
the object's path, and so take them with or without it.
Source: fhevm-0.15.md, 1.4 and 1.7; kms-core-grpc.md, 3.2 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import id_hex
from kmsconn.ethereum.logs import Log
from kmsconn.protocols.fhevm import views
from kmsconn.protocols.fhevm.contexts import EVENT, NewContext
from kmsconn.protocols.fhevm.key_views import KeyViews, Relation
from kmsconn.protocols.fhevm.keygen import COMPRESSED_KEY_SET, KEY_TYPES
from kmsconn.protocols.port import PublicObject, QueryPlan

HASHED_BEFORE = b"PDAT_KEY"
"""What a Core hashes before the bytes of a public key object, with SHAKE-256."""


def migrated_key_set(ask: KeyViews, tx_sender: Address) -> QueryPlan[PublicObject | None]:
    """Find the object of the key in use; None where that was not migrated, or this node is in no context that is current."""
    context_id, key_id = yield [ask.config.current_context(), ask.generation.active_key()]
    request, where = yield [
        ask.generation.related(Relation.MIGRATION, key_id),
        views.node_storage(ask.chain_id, ask.config.address, context_id, tx_sender),
    ]
    if not request or not where:
        return None
    agreed, (_, _, _, digests) = yield [ask.generation.has_consensus(request), ask.generation.key(key_id)]
    found = [digest for kind, digest in digests if kind == COMPRESSED_KEY_SET]
    if not agreed or not found:
        return None
    prefix = yield from storage_prefix(ask, context_id, tx_sender)
    path = f"{KEY_TYPES[COMPRESSED_KEY_SET]}/{id_hex(key_id)}"
    places = dict.fromkeys(
        ("/".join(filter(None, (where.rstrip("/"), prefix, path))), f"{where.rstrip('/')}/{path}")
    )
    return PublicObject(key_id, tuple(places), HASHED_BEFORE, found[0])


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
