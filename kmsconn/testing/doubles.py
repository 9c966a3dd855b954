"""Which replies of this node to one id were too many. Watches what is signed and reads the chain; never asks the connector.

The contract takes one reply of a signer for an id and reverts every other one, on any branch: a second one only costs gas. It is a
fault all the same, but for two cases that no connector can avoid where a branch goes and comes back (A → B → A):

- The two answer different requests that had the id on different branches. Each was signed for what stood on the chain; that it did is
  for invariant S3.
- The reply of branch A had gone with its block, and another transaction had used its nonce on branch B, so that the same bytes could
  not be included there any more. The reply was signed again for B, A came back, and signed bytes cannot be recalled.
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

    ``alone``: no other reply to the same content stood on the chain then, or could still be included by itself.
    """

    turn: int
    digest: bytes
    nonce: int
    alone: bool


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
        alone = all(self._is_over(hash_, one) for hash_, one in others.items())
        self._signed[transaction_hash] = SignedReply(len(self._signed), digest, nonce, alone)
        return bool(others)

    def _is_over(self, transaction_hash: bytes, reply: SignedReply) -> bool:
        """Say whether a reply failed, or cannot be included unless the chain goes back: its nonce is used by something else."""
        mined = self.chain.find(transaction_hash)
        if mined is not None:
            return not mined.outcome.status
        return reply.nonce < self.chain.account(self.sender).nonce

    def excuse(self, first: Mined, later: Mined) -> bool:
        """Say whether both may stand: they answer different contents, or the one signed last was alone then."""
        found = [self._signed.get(one.transaction.hash) for one in (first, later)]
        pair = sorted((one for one in found if one is not None), key=lambda one: one.turn)
        return len(pair) == len(found) and (pair[0].digest != pair[1].digest or pair[1].alone)
