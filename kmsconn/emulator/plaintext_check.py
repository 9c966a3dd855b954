"""Compares what nodes reveal by public decryptions with the values that were encrypted. Reads replies on chain, asks nobody.

Source: fhevm-0.14.md, 2.1.
"""

from __future__ import annotations

import attrs

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.ground_truth import Trace
from kmsconn.emulator.plaintexts import abi_word
from kmsconn.emulator.users import Prepared
from kmsconn.errors import Undecodable
from kmsconn.protocols.fhevm.abi import DECRYPTION

_REPLY = DECRYPTION.function("publicDecryptionResponse")
_SELECTOR_BYTES = 4


@attrs.frozen
class PlaintextVerdict:
    """How many included replies were compared, and in how many the plaintexts are not the values that were encrypted."""

    compared: int
    wrong: int


@attrs.define(eq=False)
class PlaintextCheck:
    """Is told what is requested and what is replied. Repeating: a reply that is told again counts once."""

    _expected: dict[bytes, bytes] = attrs.field(factory=dict, init=False)
    """By the transaction of the request: the plaintexts as the contract gets them."""
    _compared: dict[bytes, bool] = attrs.field(factory=dict, init=False)
    """By the transaction of the reply: whether they are right."""

    def expect(self, transaction_hash: bytes, prepared: Prepared) -> None:
        """Take note of a request that is made."""
        if prepared.form == "public":
            words = (abi_word(one.value, one.fhe_type) for one in prepared.ciphertexts)
            self._expected[transaction_hash] = b"".join(words)

    def compare(self, trace: Trace, reply: Mined) -> None:
        """Compare a reply that is included with success."""
        expected = self._expected.get(trace.transaction_hash)
        if expected is not None and reply.outcome.status:
            self._compared[reply.transaction.hash] = _revealed(reply.transaction.data) == expected

    def verdict(self) -> PlaintextVerdict:
        """Judge what was compared so far."""
        return PlaintextVerdict(len(self._compared), sum(not right for right in self._compared.values()))


def _revealed(calldata: bytes) -> bytes | None:
    """Return the plaintexts in a reply; None where it is no public one."""
    if calldata[:_SELECTOR_BYTES] != _REPLY.selector:
        return None
    try:
        _, result, *_ = _REPLY.decode(calldata)
    except Undecodable:
        return None
    return bytes(result)
