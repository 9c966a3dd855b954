"""What every generation sees to before it hands a decryption to the Core. Never builds a request."""

from __future__ import annotations

from collections.abc import Sequence

from kmsconn.errors import Rejected
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext


def expect_whole(references: Sequence[CiphertextReference], ciphertexts: Sequence[Ciphertext]) -> None:
    """See that there is one ciphertext for each reference, in their order.

    Raises Rejected for a request without references; ValueError when the ciphertexts are not those of the references.
    """
    if not references:
        raise Rejected("the request names no ciphertext")
    if [entry.handle for entry in ciphertexts] != [reference.handle for reference in references]:
        raise ValueError("the ciphertexts are not those of the request")
