"""What is true on the emulated gateway, and which replies of this node to one id were too many.

It is read from blocks and from what is signed, and from nothing that the connector says.

The contract takes one reply of a signer for an id and reverts every other one, on any branch: a second one only costs gas. It is a
fault all the same, but for two cases that no connector can avoid where a branch goes and comes back (A → B → A):

- The two answer different requests that had the id on different branches. Each was signed for what stood on the chain; that it did is
  for invariant S3.
- The reply of branch A had gone with its block, and another transaction had used its nonce on branch B, so that the same bytes could
  not be included there any more; or it failed on B. The reply was signed again for B, A came back, and bytes that a node took cannot
  be recalled. What else was signed of that reply says nothing about these two. Only the moment of signing is looked at: that bytes
  which no node took are kept back once A is there again is for the tests of the transaction manager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.dependencies import EmulatedDependencies, GenerationEvents
from kmsconn.emulator.evm import NodeView
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address

Excuse = Callable[[Mined, Mined], bool]
"""Says whether a later reply to an id may stand beside the first one that succeeded."""


def no_excuse(first: Mined, later: Mined) -> bool:
    """Let no second reply pass."""
    del first, later
    return False


@attrs.frozen
class SignedReply:
    """A reply that was signed: for the content with this digest, as the ``turn``-th one.

    ``over``: hashes of earlier replies to the same content that did not succeed on the chain of that moment, and no longer could.
    """

    turn: int
    digest: bytes
    nonce: int
    over: frozenset[bytes]


@attrs.define
class SignedReplies:
    """All that were signed so far, by transaction hash."""

    chain: EmulatedChain
    sender: Address
    _signed: dict[bytes, SignedReply] = attrs.field(factory=dict)

    def note(self, transaction_hash: bytes, digest: bytes, nonce: int) -> bool:
        """Note a signature; say whether it replaces one under another nonce. Repeating: the first time counts."""
        if transaction_hash in self._signed:
            return False
        others = {
            hash_: one for hash_, one in self._signed.items() if one.digest == digest and one.nonce != nonce
        }
        over = frozenset(hash_ for hash_, one in others.items() if self._is_over(hash_, one))
        self._signed[transaction_hash] = SignedReply(len(self._signed), digest, nonce, over)
        return bool(others)

    def _is_over(self, transaction_hash: bytes, reply: SignedReply) -> bool:
        """Say whether a reply failed, or cannot be included unless the chain goes back: its nonce is used by something else."""
        mined = self.chain.history.find(transaction_hash)
        if mined is not None:
            return not mined.outcome.took_effect
        return reply.nonce < self.chain.evm.account(self.sender).nonce

    def excuse(self, first: Mined, later: Mined) -> bool:
        """Say whether both may stand: they answer different contents, or one was over when the other one was signed."""
        hashes = [one.transaction.hash for one in (first, later)]
        if not all(one in self._signed for one in hashes):
            return False
        older, newer = sorted(hashes, key=lambda one: self._signed[one].turn)
        same = self._signed[older].digest == self._signed[newer].digest
        return not same or older in self._signed[newer].over


@attrs.frozen
class GroundTruthReport:
    """Requests of the canonical chain by name, answered by this node, still open, and doubled; for answered ones the blocks it took.

    ``doubled``: a reply of ours was included although an earlier one of the same id had succeeded; the contract reverts it, but it
    was paid. A reply that failed *before* the one that succeeded (out of gas, another content under the id, no code at the address)
    is none, nor is one that has an excuse (``doubles``).
    """

    requested: tuple[int, ...]
    answered: tuple[int, ...]
    doubled: tuple[int, ...]
    open: tuple[int, ...]
    blocks: Mapping[int, int]


def read_ground_truth(dependencies: EmulatedDependencies, excuse: Excuse = no_excuse) -> GroundTruthReport:
    """Read all blocks of the gateway. A request that left the chain with its block is not requested."""
    begun = {
        name_of(dependencies.generation_events, log): log.block_number for log in requests_of(dependencies)
    }
    answered: dict[int, Mined] = {}
    doubled: list[int] = []
    for identifier, mined in replies_of(dependencies):
        if identifier in answered:
            doubled += [] if excuse(answered[identifier], mined) else [identifier]
        elif mined.outcome.took_effect:
            answered[identifier] = mined
    open_ = tuple(identifier for identifier in begun if identifier not in answered)
    blocks = {one: mined.block_number - begun.get(one, mined.block_number) for one, mined in answered.items()}
    return GroundTruthReport(tuple(begun), tuple(sorted(answered)), tuple(doubled), open_, blocks)


def requests_of(dependencies: EmulatedDependencies) -> Iterator[Log]:
    """Yield the readable request events of the canonical chain, oldest first."""
    chain, contract = dependencies.gateway, dependencies.decryption.address
    for block in chain.history.blocks_with_logs(0, chain.head.number):
        for mined in block.mined:
            for log in mined.logs:
                if log.address == contract and is_request(dependencies.generation_events, log):
                    yield log


def is_request(generation_events: GenerationEvents, log: Log) -> bool:
    """Say whether a log of the contract for decryptions is a request that can be read."""
    # an id of zero is the mark of a log that nobody can read (faults.StrangeLog)
    return log.topics[0] in generation_events.requests and any(log.topics[1])


def name_of(generation_events: GenerationEvents, log: Log) -> int:
    """Return the name of a request, by its log."""
    name = generation_events.requested(log.topics)
    assert name is not None, "a request"
    return name


def replies_of(
    dependencies: EmulatedDependencies, view: NodeView | None = None
) -> Iterator[tuple[int, Mined]]:
    """Yield our replies in a view of the gateway, None: the canonical chain. Oldest first, each with the name of what it answers."""
    chain = dependencies.gateway if view is None else view
    for number in range(chain.head.number + 1):
        block = chain.block(number)
        for mined in block.mined if block is not None else ():
            identifier = reply_to(dependencies, mined)
            if identifier is not None:
                yield identifier, mined


def reply_to(dependencies: EmulatedDependencies, mined: Mined) -> int | None:
    """Return the name of the request that a transaction answers for us; None for any other transaction."""
    transaction = mined.transaction
    ours = (
        transaction.sender == dependencies.sender.address
        and transaction.to == dependencies.decryption.address
    )
    return dependencies.generation_events.replied(transaction.data) if ours else None
