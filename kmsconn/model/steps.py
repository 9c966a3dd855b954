"""A request as a straight line of typed steps: Seen → Checked → Gathered → Submitted → Answered (→ Replied, by the transaction manager).

Each value holds what the next stage needs and nothing else; mypy checks the order.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.model.requests import Request


@frozen
class Seen:
    """Heard and durable."""

    request: Request


@frozen
class Checked:
    """May be answered. ``context_id``/``epoch_id`` as read from extraData (None: not named)."""

    request: Request
    context_id: int | None
    epoch_id: int | None


@frozen
class Ciphertext:
    """One ciphertext as the Core takes it. ``format`` is the number of kms.v1.CiphertextFormat.

    Where it is a bucket's first-choice object, ``bucket`` says which one's, and ``attestation`` is what stands in its header.
    ``key_id`` is the key that the coprocessors attest, 0 where nobody asked them: then the chain names it.
    """

    handle: bytes
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    format: int
    bucket: str = attrs.field(default="", eq=False)
    attestation: str = attrs.field(default="", eq=False, repr=False)
    key_id: int = 0


@frozen
class Gathered:
    """``found``, for the profile alone, is here: the ciphertexts, one per reference in event order, each with the right digest.

    Of a request without references it is what the profile's query plan came to.
    """

    request: Request
    context_id: int | None
    epoch_id: int | None
    found: Any


@frozen
class Submitted:
    """The Core has it; the payload is released. ``uncertain``: what the Core said instead, if only its result can tell.

    ``existed``: it said that it had the id already. ``reply`` is its result where that came at once. ``over``: contexts and epochs that
    the request has ended besides its own.
    """

    request: Request
    uncertain: str = ""
    existed: bool = attrs.field(default=False, eq=False)
    reply: bytes | None = attrs.field(default=None, repr=False)
    over: frozenset[int] = frozenset()


@frozen
class Answer:
    """What is sent back: the calldata of the reply and the node signer recovered from the Core's signature, where it has one.

    ``mismatch``: what else is not as an honest Core has it, told and not kept.
    """

    calldata: bytes
    signer: Address | None
    mismatch: str = ""


@frozen
class Answered:
    """The Core's answer is verified; None where nothing is replied."""

    request: Request
    answer: Answer | None
