"""What a node's answer about a reply means: to a send, an estimate, a call, a receipt, a trace. Tables; never does I/O.

Texts are compared without case, spaces and punctuation, because nodes agree on the words and on nothing else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs

from kmsconn.chain.port import RpcError
from kmsconn.errors import KmsconnError, Unreachable
from kmsconn.ethereum.hexes import from_count, from_hex, from_quantity
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Profile, Revert, Verdict


class Sent(StrEnum):
    """What became of bytes that were handed to a node."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # the node has them already
    USED = "used"  # the nonce is taken on that node, perhaps by these bytes: on to the receipt
    GAP = "gap"  # nothing is kept for later nonces: the same bytes again once the gap is filled
    OCCUPIED = "occupied"  # other bytes wait under this nonce
    UNDERPRICED = "underpriced"  # the bytes can get nowhere at this fee
    FUNDS = "funds"  # the account cannot pay
    REFUSED = "refused"  # these bytes will not be taken: they revert, or ask for too much or too little gas
    FAILED = "failed"  # nothing is known about the bytes; something is wrong with the node or with us


THERE = frozenset({Sent.ACCEPTED, Sent.KNOWN, Sent.USED, Sent.OCCUPIED})
"""A node holds something for this nonce: the sends behind it may go on."""

# The first text that is found decides: "replacement transaction underpriced" stands before "underpriced".
SEND_ERRORS: tuple[tuple[str, Sent], ...] = (
    ("already known", Sent.KNOWN),  # geth, erigon, reth, Nitro; Nethermind writes AlreadyKnown
    ("already imported", Sent.KNOWN),  # anvil, OpenEthereum
    ("known transaction", Sent.KNOWN),  # Besu, old geth
    ("nonce too low", Sent.USED),
    ("old nonce", Sent.USED),  # Nethermind: OldNonce
    ("nonce too high", Sent.GAP),  # Nitro
    ("nonce gap", Sent.GAP),  # Nethermind
    ("nonce is too distant", Sent.GAP),  # Besu
    ("gapped nonce", Sent.GAP),
    ("replacement transaction underpriced", Sent.OCCUPIED),
    ("replacement not allowed", Sent.OCCUPIED),  # Nethermind
    ("underpriced", Sent.UNDERPRICED),
    ("less than block base fee", Sent.UNDERPRICED),
    ("fee too low", Sent.UNDERPRICED),  # Nethermind: FeeTooLow, FeeTooLowToCompete
    ("gas price below", Sent.UNDERPRICED),  # Besu
    ("insufficient funds", Sent.FUNDS),
    ("insufficient balance", Sent.FUNDS),
    ("exceeds account balance", Sent.FUNDS),  # Besu
    ("revert", Sent.REFUSED),
    ("intrinsic gas", Sent.REFUSED),
    ("exceeds block gas limit", Sent.REFUSED),
    ("gas limit too", Sent.REFUSED),
    ("oversized data", Sent.REFUSED),
)


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


_SEND_ERRORS = tuple((_plain(text), sent) for text, sent in SEND_ERRORS)


def read_sent(result: Any) -> Sent:
    """Return what came of an ``eth_sendRawTransaction``: its result, or the error that came instead."""
    if not isinstance(result, RpcError):
        return Sent.FAILED if isinstance(result, KmsconnError) else Sent.ACCEPTED
    said = _plain(result.message)
    return next((sent for text, sent in _SEND_ERRORS if text in said), Sent.FAILED)


@attrs.frozen
class Accepts:
    """The contract would take the reply now, so it has none of this signer. ``gas`` where an estimate was asked for."""

    gas: int = 0


@attrs.frozen
class Unclear:
    """The node gave no answer to the question: ask again later. ``funds``: because the account cannot pay."""

    reason: str
    funds: bool = False


Says = Accepts | Revert | Unclear


def read_call(profile: Profile, kind: Kind, result: Any) -> Says:
    """Return what an ``eth_call`` of a reply from its own sender says."""
    if isinstance(result, RpcError):
        return _refusal(profile, kind, result)
    try:
        from_hex(result)
    except ValueError:
        return Unclear("the node gave a result that cannot be read")
    return Accepts()


def read_estimate(profile: Profile, kind: Kind, result: Any) -> Says:
    """Return what an ``eth_estimateGas`` of a reply says."""
    if isinstance(result, RpcError):
        return _refusal(profile, kind, result)
    try:
        return Accepts(from_quantity(result))
    except (ValueError, TypeError):
        return Unclear("the node gave an estimate that is no number")


def read_gas(result: Any) -> int:
    """Return the gas of a call that no contract answers. Raises Unreachable when the node gave none."""
    if isinstance(result, RpcError):
        raise Unreachable(f"the node gave no estimate: {result}") from result
    try:
        return from_quantity(result)
    except (ValueError, TypeError) as error:
        raise Unreachable("the node gave an estimate that is no number") from error


def _refusal(profile: Profile, kind: Kind, error: RpcError) -> Revert | Unclear:
    if is_revert(error):
        return profile.revert(kind, error.data)
    return Unclear(str(error), funds=read_sent(error) is Sent.FUNDS)


_EXECUTION_REVERTED = 3


def is_revert(error: RpcError) -> bool:
    """Say whether an error is the contract's no: by its code (geth), its data, or its text."""
    return error.code == _EXECUTION_REVERTED or bool(error.data) or "revert" in error.message.lower()


def is_done(says: Says) -> bool:
    """Say whether the contract has this signer's reply."""
    return isinstance(says, Revert) and says.verdict is Verdict.DONE


def is_hopeless(says: Says) -> bool:
    """Say whether the reply can never be taken; believed only once the request's block is older than the overlap."""
    return isinstance(says, Revert) and says.verdict in {Verdict.FINAL, Verdict.SKIP}


def is_not_ours(says: Says) -> bool:
    """Say whether the contract takes this reply from others only."""
    return isinstance(says, Revert) and says.verdict is Verdict.SKIP


def reason_of(says: Says) -> str:
    """Return an answer as text for a reason."""
    match says:
        case Accepts():
            return "the contract has no reply of this node"
        case Unclear():
            return says.reason
        case _:
            return str(says)


@attrs.frozen
class Receipt:
    """A mined transaction: its block, and whether it did what it should."""

    block: int
    succeeded: bool


def read_receipt(result: Any) -> Receipt | Unclear | None:
    """Return a receipt, None when the node knows none; one without a block is none yet, and no proof of absence."""
    if result is None:
        return None
    if isinstance(result, RpcError):
        return Unclear(str(result))
    try:
        if result["blockHash"] is None:
            return Unclear("a receipt without a block")
        return Receipt(from_count(result["blockNumber"]), from_quantity(result["status"]) == 1)
    except (KeyError, TypeError, ValueError):
        return Unclear("a receipt that cannot be read")


def read_trace(profile: Profile, kind: Kind, result: Any) -> Revert | Unclear:
    """Return why a transaction failed from the top frame of a ``callTracer``; Unclear when there is none or no revert data."""
    if isinstance(result, RpcError):
        return Unclear(str(result))
    try:
        error, output = result.get("error", "failed"), from_hex(result.get("output", "0x"))
    except (AttributeError, TypeError, ValueError):
        return Unclear("a trace that cannot be read")
    return profile.revert(kind, output) if output else Unclear(f"status 0: {error}")
