"""Where the compressed key set of a migrated key must lie, and what its digest is. Never fetches it.

The Core copies it to the key in its public storage; that the copy failed is said by nobody, and the coprocessors would not find it.
Source: fhevm-0.15.md, 1.4 and 1.7; kms-core-grpc.md, 8.
"""

from __future__ import annotations

from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import id_hex
from kmsconn.protocols.fhevm import views
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
    url = f"{where.rstrip('/')}/{KEY_TYPES[COMPRESSED_KEY_SET]}/{id_hex(key_id)}"
    return PublicObject(key_id, url, HASHED_BEFORE, found[0])
