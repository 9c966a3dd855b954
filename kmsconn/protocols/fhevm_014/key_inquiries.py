"""What is asked of Ethereum before the Core is, round by round: whether a request still stands, and what it needs. Never asks itself.

Source: fhevm-0.14.md, 3.5-3.7, annex A and E.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import attrs

from kmsconn.errors import Aborted, ContextInvalid, Destroyed, NotYet, Rejected, Undecodable
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, counter_of, id_hex, id_name, make_id, tag_of
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.logs import Log
from kmsconn.protocols.fhevm_014 import views
from kmsconn.protocols.fhevm_014.key_events import (
    NEW_CONTEXT,
    ContextDestroyed,
    NewContext,
    NewEpoch,
    new_context,
)
from kmsconn.protocols.fhevm_014.key_messages import KEY_TYPES, EpochMaterial, KeyMaterial
from kmsconn.protocols.fhevm_014.key_views import FINALIZED, KeyViews, Standing
from kmsconn.protocols.port import Inquiry, Slot, Verdict

_PARAMETERS = {0, 1}
_MOST_EPOCHS = 1024  # what the Core takes in one call


def valid_pair(ask: KeyViews, context_id: int, epoch_id: int | None) -> Inquiry[None]:
    """Ask whether a context is active, and an epoch in it (3.5).

    Raises Destroyed, NotYet for what is not valid. What was destroyed in a block that is not final is not valid yet, or any more: only
    the finalized block ends a request for good. A destroyed epoch looks like one that is not issued yet, but for its number, which the
    counter has passed.
    """
    where = (ask.chain_id, ask.config)
    destroyed, valid, *epoch_valid = yield [
        _final(ask.is_context_destroyed(context_id)),
        views.is_valid_context(*where, context_id),
        *([] if epoch_id is None else [views.is_valid_epoch(*where, context_id, epoch_id)]),
    ]
    if destroyed:
        raise _destroyed(context_id)
    if epoch_id is not None and not all(epoch_valid):
        yield from _expect_epoch(ask, epoch_id)
        raise ContextInvalid(
            f"epoch {id_hex(epoch_id)} of context {id_hex(context_id)} is not valid on chain"
        )
    if not valid:
        raise ContextInvalid(f"context {id_hex(context_id)} is not valid on chain")


def _final(slot: Slot[Any]) -> Slot[Any]:
    return attrs.evolve(slot, block=FINALIZED)


def _destroyed(identifier: int) -> Destroyed:
    return Destroyed(id_name(identifier), identifier)


def _expect_epoch(ask: KeyViews, epoch_id: int) -> Inquiry[None]:
    """Raise Destroyed for an epoch that was destroyed, as of the finalized block."""
    standing, newest = yield [_final(ask.epoch_standing(epoch_id)), _final(ask.newest_epoch_id())]
    if standing is Standing.NONE and _is_issued(epoch_id, newest):
        raise _destroyed(epoch_id)


def _is_issued(epoch_id: int, newest: int) -> bool:
    return tag_of(epoch_id) == EPOCH_TAG == tag_of(newest) and 0 < counter_of(epoch_id) <= counter_of(newest)


def generation_stands(ask: KeyViews, identifier: int) -> Inquiry[bool]:
    """Ask about a preparation, key or CRS; return whether it still waits for answers. Raises Aborted."""
    over, consensus = yield [ask.is_over(identifier), ask.has_consensus(identifier)]
    if over and not consensus:
        raise Aborted("it was aborted on chain")
    return not over


def context_stands(ask: KeyViews, content: NewContext) -> Inquiry[bool]:
    """Ask about a new context: its Core needs it as long as it is not destroyed, confirmed or not. Raises Destroyed."""
    [destroyed] = yield [_final(ask.is_context_destroyed(content.id))]
    if destroyed:
        raise _destroyed(content.id)
    return True


def epoch_stands(ask: KeyViews, content: NewEpoch, tx_sender: Address) -> Inquiry[bool]:
    """Ask about a new epoch; return whether it is still made, with this node. Raises Destroyed once it, or its context, was.

    It needs the nodes of both contexts. The Core of any other node refuses it for ever, and would hold up what comes behind.
    """
    where = (ask.chain_id, ask.config)
    destroyed, standing, *signers = yield [
        _final(ask.is_context_destroyed(content.context_id)),
        ask.epoch_standing(content.id),
        *(
            views.node_signer(*where, context_id, tx_sender)
            for context_id in (content.previous_context_id, content.context_id)
        ),
    ]
    if destroyed:
        raise _destroyed(content.context_id)
    yield from _expect_epoch(ask, content.id)
    return standing is not Standing.CREATED and any(signer != ZERO_ADDRESS for signer in signers)


def previous_context(ask: KeyViews, content: NewContext) -> Inquiry[NewContext | None]:
    """Find the announcement of the previous context in its block, and see that it is the one that the contract hashed (3.6).

    None where that context was destroyed: its Core is to forget it, and must not be told of it again.
    Raises NotYet when it is not there, or another.
    """
    [destroyed] = yield [_final(ask.is_context_destroyed(content.previous_id))]
    if destroyed:
        return None
    [(block, digest)] = yield [ask.anchor(content.previous_id)]
    [logs] = yield [ask.announcements(content.previous_id, block)]
    return _announced(content.previous_id, logs, digest)


def _announced(context_id: int, logs: Sequence[Log], digest: bytes) -> NewContext:
    if len(logs) != 1:
        raise NotYet(
            f"context {id_hex(context_id)} has {len(logs)} announcements in the block that the contract names"
        )
    if keccak256(logs[0].data) != digest:
        raise NotYet(
            f"the announcement of context {id_hex(context_id)} is not the one that the contract hashed"
        )
    try:
        return new_context(*NEW_CONTEXT.decode(logs[0].topics, logs[0].data))
    except Undecodable as error:
        raise NotYet(f"the announcement of context {id_hex(context_id)} cannot be read: {error}") from error


def epoch_material(ask: KeyViews, content: NewEpoch) -> Inquiry[EpochMaterial]:
    """Read what is reshared, as of the block that the event names (3.7). Raises Rejected for a type that is not known."""
    block = content.material_block
    key_ids, crs_ids = yield [ask.completed_keys(block), ask.completed_crs(block)]
    found = yield [*map(ask.key, key_ids, repeat(block)), *map(ask.crs_digest, crs_ids, repeat(block))]
    keys, digests = found[: len(key_ids)], found[len(key_ids) :]
    material = EpochMaterial(
        tuple(KeyMaterial(*key) for key in keys), tuple(zip(crs_ids, digests, strict=True))
    )
    for key in material.keys:
        if key.params not in _PARAMETERS or not {kind for kind, _ in key.digests} <= KEY_TYPES.keys():
            raise Rejected(f"key {id_hex(key.id)} has parameters or digests of a type that is not known")
    return material


def epochs_of(ask: KeyViews, content: ContextDestroyed) -> Inquiry[tuple[int, ...]]:
    """Find the epochs that a context had, the newest of them if there are too many for one call."""
    [newest] = yield [ask.newest_epoch_id()]
    last = counter_of(newest) if tag_of(newest) == EPOCH_TAG else 0
    ids = [make_id(EPOCH_TAG, counter) for counter in range(max(1, last - _MOST_EPOCHS + 1), last + 1)]
    contexts = yield [ask.context_of_epoch(epoch_id) for epoch_id in ids]
    return tuple(epoch_id for epoch_id, context in zip(ids, contexts, strict=True) if context == content.id)


def after_no_pending_context(ask: KeyViews, context_id: int) -> Inquiry[Verdict]:
    """Say what "not pending" means for a confirmation: done where the context lives, final where it was destroyed (annex A)."""
    standing, destroyed = yield [ask.context_standing(context_id), ask.is_context_destroyed(context_id)]
    if destroyed:
        return Verdict.FINAL
    return Verdict.DONE if standing in {Standing.CREATED, Standing.ACTIVE} else Verdict.RETRY


def after_no_pending_epoch(ask: KeyViews, epoch_id: int) -> Inquiry[Verdict]:
    """Say what "not pending" means for an activation: done where the epoch is active, final where it was destroyed (annex A)."""
    standing, newest = yield [ask.epoch_standing(epoch_id), ask.newest_epoch_id()]
    if standing is Standing.CREATED:
        return Verdict.DONE
    destroyed = standing is Standing.NONE and _is_issued(epoch_id, newest)
    return Verdict.FINAL if destroyed else Verdict.RETRY


def after_invalid_context(ask: KeyViews, context_id: int) -> Inquiry[Verdict]:
    """Say what "invalid context" means for an answer: final once it was destroyed (annex A, bounded)."""
    [destroyed] = yield [ask.is_context_destroyed(context_id)]
    return Verdict.FINAL if destroyed and tag_of(context_id) == CONTEXT_TAG else Verdict.RETRY
