"""What is asked about a reply, and what a node's answer says: to a broadcast, an estimate, a call, a receipt, a trace. Never does I/O.

Texts are compared without case, spaces and punctuation, because nodes agree on the words and on nothing else.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, ClassVar

import attrs

from kmsconn.chain.port import JsonBlockHash, JsonReceipt, JsonTrace, Receipt, RpcError, is_overload, read
from kmsconn.errors import KmsconnError, Retryable, StageTimeout
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, from_quantity, to_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.protocols.profile import Profile
from kmsconn.transport.waiting import Backoff


class Sent(StrEnum):
    """The outcome of a broadcast of a raw transaction."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # the node has them already
    USED = "used"  # the nonce is taken on that node, perhaps by these bytes: on to the receipt
    GAP = "gap"  # nothing is kept for later nonces: the same bytes again once the gap is filled
    OCCUPIED = "occupied"  # other bytes wait under this nonce
    UNDERPRICED = "underpriced"  # the bytes can get nowhere at this fee
    FUNDS = "funds"  # the account cannot pay
    CAPPED = "capped"  # the node takes no fee that high
    REFUSED = "refused"  # these bytes will not be taken: they revert, or ask for too much or too little gas
    UNANSWERED = "unanswered"  # no answer in time: the node may hold the bytes
    FAILED = "failed"  # nothing is known about the bytes; something is wrong with the node or with us


WAITS_FOR_A_BLOCK = frozenset({Sent.ACCEPTED, Sent.KNOWN, Sent.OCCUPIED})
"""A node holds something for this nonce, and no block has it yet."""

THERE = WAITS_FOR_A_BLOCK | {Sent.USED}
"""A node holds something for this nonce."""

MAYBE_THERE = THERE | {Sent.UNANSWERED}
"""Or it may."""

UNPAYABLE = frozenset({Sent.FUNDS, Sent.CAPPED})
"""The node refused the bytes for a fee that is too high, for the account or for itself."""

UNHELD = UNPAYABLE | {Sent.UNDERPRICED}
"""The node refused the bytes for what they cost, and holds nothing of them."""

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
    ("exceeds the configured cap", Sent.CAPPED),  # geth: rpc.txfeecap
    ("fee per gas higher than 2^256", Sent.CAPPED),  # geth
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


_HASH = re.compile("0x[0-9a-fA-F]{64}")
_SEND_ERRORS = tuple((_plain(text), sent) for text, sent in SEND_ERRORS)


def read_sent(result: Any, expected: bytes | None = None) -> Sent:
    """Return what came of an ``eth_sendRawTransaction``: its result, or the error that came instead.

    A hash that is not the ``expected`` one is no answer: whether the node has the bytes is not known.
    """
    if isinstance(result, StageTimeout):
        return Sent.UNANSWERED
    if not isinstance(result, RpcError):
        if not isinstance(result, str) or not _HASH.fullmatch(result):
            return Sent.FAILED
        is_ours = expected is None or int(result, 16) == int.from_bytes(expected)
        return Sent.ACCEPTED if is_ours else Sent.UNANSWERED
    said = _plain(result.message)
    return next((sent for text, sent in _SEND_ERRORS if text in said), Sent.FAILED)


@attrs.frozen
class Accepts:
    """The contract would take the reply now, so it has none of this signer. ``gas`` where an estimate was asked for."""

    gas: int = 0
    verdict: ClassVar[Verdict | None] = None
    alert: ClassVar[str] = ""

    def __str__(self) -> str:
        return "the contract has no reply of this node"


@attrs.frozen
class Unclear:
    """The node's answer does not tell: ask again later. ``silent``: there was none at all, or one that asks for fewer questions."""

    reason: str
    silent: bool = False
    verdict: ClassVar[Verdict | None] = None
    alert: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.reason


Says = Accepts | Revert | Unclear


def _unanswered(error: KmsconnError) -> Unclear:
    return Unclear(str(error), silent=not isinstance(error, RpcError) or is_overload(error))


def read_probe(profile: Profile, kind: Kind, result: Any, *, is_estimate: bool) -> Says:
    """Return what an ``eth_estimateGas`` or an ``eth_call`` of a reply from its own sender says.

    No function that takes a reply returns anything.
    """
    if isinstance(result, RpcError) and result.is_revert:
        return profile.operations[kind].revert(result.data)
    if isinstance(result, (RpcError, Retryable)):
        return _unanswered(result)
    try:
        if is_estimate:
            return Accepts(from_quantity(result))
    except (ValueError, TypeError):
        return Unclear("the node's estimate is not a number")
    if result == "0x":
        return Accepts()
    return Unclear("the node answered with a result, but the function returns none")


def is_done(says: Says) -> bool:
    """Say whether the contract has this signer's reply."""
    return says.verdict is Verdict.DONE


def is_hopeless(says: Says) -> bool:
    """Say whether the reply can never be taken; believed only once the request's block is older than the reorg window."""
    return says.verdict in {Verdict.FINAL, Verdict.SKIP}


def read_receipt(contract: Address, result: Any) -> Receipt | Unclear | None:
    """Return the receipt of a reply to a contract, None when the node knows none, Unclear for an answer that says nothing."""
    if result is None:
        return None
    if isinstance(result, (RpcError, Retryable)):
        return _unanswered(result)
    try:
        receipt = read(result, JsonReceipt)
        if receipt.block_hash is None:
            return Unclear("the node's receipt names no block")
        return Receipt(
            int(receipt.block_number, 16),
            int(receipt.status, 16) == 1,
            None if receipt.gas_used is None else int(receipt.gas_used, 16),
            from_hex(receipt.block_hash),
            any(log.address.lower() == to_hex(contract) for log in receipt.logs),
        )
    except ValueError:
        return Unclear("the node's receipt cannot be decoded")


Finds = Says | Receipt | bool | None
"""What the answer to a question about a reply says; None: the node knows no such transaction; a truth: it holds the block or not."""


def read_stands(block_hash: bytes, result: Any) -> bool | Unclear:
    """Return whether a block is the one with this hash, Unclear for an answer that says nothing."""
    if isinstance(result, (RpcError, Retryable)):
        return _unanswered(result)
    try:
        return result is not None and from_hex(read(result, JsonBlockHash).hash) == block_hash
    except ValueError:
        return Unclear("the node's block has no readable hash")


def read_trace(profile: Profile, kind: Kind, result: Any) -> Revert | Unclear:
    """Return why a transaction failed from the top frame of a ``callTracer``; Unclear when there is none or no revert data."""
    if isinstance(result, (RpcError, Retryable)):
        return _unanswered(result)
    try:
        trace = read(result, JsonTrace)
        output = from_hex(trace.output or "0x")
    except ValueError:
        return Unclear("the node's trace cannot be decoded")
    return profile.operations[kind].revert(output) if output else Unclear(f"status 0: {trace.error}")


# --- what is asked


class Question(StrEnum):
    """A question to a node about one reply. The first two ask whether the contract would take it: unsigned, and signed."""

    ESTIMATE = "eth_estimateGas"
    CALL = "eth_call"
    CALL_AT_BLOCK = "eth_call at the receipt's block"
    RECEIPT = "eth_getTransactionReceipt"
    TRACE = "debug_traceTransaction"
    BLOCK = "eth_getBlockByNumber of the request's block"


class Belief(StrEnum):
    """Something about a reply that one look does not prove."""

    ABSENT = "the nonce of its bytes was used without them"
    GONE = "the contract has not the reply that was included"
    HOPELESS = "the contract will never take it"


# --- what nodes said to broadcasts

AGAIN_AFTER = 5.0  # seconds without a receipt until the same bytes are broadcast again; doubled each time
_DOUBLINGS = 4
REPLACE_AFTER = 30.0  # seconds without a receipt until a higher fee is tried
_BLOCKS_TO_WAIT = 3  # on a slow chain: so many blocks instead
_SENT_TWICE = 2
LONGEST_RETRY = 15.0
REFUSED_BACKOFF = Backoff(0.25, LONGEST_RETRY, least=1.0)
"""Until bytes go out again that a node refused."""


@attrs.define
class Broadcast:
    """What became of bytes that go out: since when, when last, how often a node answered, and what it said last. Times are Trio's.

    What failed says nothing of the bytes: it is not counted, and ``since`` begins after it. ``refusals``: how often they were REFUSED.
    ``on_its_way``: no answer came yet to the last time. A sequencer answers when the block is made. ``block_time`` in seconds.
    """

    since: float
    at: float
    times: int = 0
    refusals: int = 0
    said: Sent | None = None
    on_its_way: bool = True

    def goes_out(self, now: float) -> None:
        """Note that the bytes are on their way to a node."""
        self.at, self.on_its_way = now, True

    def tell(self, said: Sent, now: float) -> bool:
        """Note what a node said; return whether it is the first time that a node holds something of these bytes."""
        is_news = said in THERE and self.said not in THERE
        self.since = self.since if self.times else self.at  # when these bytes went out, and not their answer
        self.times += said is not Sent.FAILED
        self.refusals += said is Sent.REFUSED
        self.at, self.said, self.on_its_way = now, said, False
        return is_news

    def is_due(self, now: float, block_time: float) -> bool:
        """Say whether the bytes are to be broadcast now: not taken, or no receipt for long."""
        if self.said in MAYBE_THERE:
            doublings = 0 if self.said is Sent.USED else min(self.times - 1, _DOUBLINGS)
            pause = max(AGAIN_AFTER, _BLOCKS_TO_WAIT * block_time) * 2.0**doublings
        elif self.said in {Sent.FAILED, Sent.FUNDS}:
            pause = 0.0  # what fails for all has its pace elsewhere
        else:
            pause = REFUSED_BACKOFF.seconds(self.times - 1)
        return not self.on_its_way and now - self.at >= pause

    def says_used(self, now: float, block_time: float) -> bool:
        """Say whether the node's word that the nonce is used still counts: a reorganisation may have opened it since."""
        return self.said is Sent.USED and not self.is_due(now, block_time)

    def is_stuck(self, now: float, block_time: float, replace_after: float) -> bool:
        """Say whether the bytes need another fee: the node refuses them for it, or they have no receipt for ``replace_after`` seconds."""
        wait = max(replace_after, 2 * _BLOCKS_TO_WAIT * block_time)
        waits = (
            self.said in MAYBE_THERE - {Sent.USED} and self.times >= _SENT_TWICE and now - self.since >= wait
        )
        return not self.on_its_way and (waits or self.said in UNHELD)
