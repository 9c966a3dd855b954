"""Which replies of this node to one id were too many. Watches what is signed and reads the chain; never asks the connector.

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

from collections.abc import Callable

import attrs

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.chain import EmulatedChain
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
            return not mined.outcome.status
        return reply.nonce < self.chain.evm.account(self.sender).nonce

    def excuse(self, first: Mined, later: Mined) -> bool:
        """Say whether both may stand: they answer different contents, or one was over when the other one was signed."""
        hashes = [one.transaction.hash for one in (first, later)]
        if not all(one in self._signed for one in hashes):
            return False
        older, newer = sorted(hashes, key=lambda one: self._signed[one].turn)
        same = self._signed[older].digest == self._signed[newer].digest
        return not same or older in self._signed[newer].over
