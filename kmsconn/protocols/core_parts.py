"""What every generation sees to before it hands a decryption to the Core. Never builds a request."""

from __future__ import annotations

from collections.abc import Sequence

from kmsconn.errors import Rejected
from kmsconn.model.requests import Material
from kmsconn.model.steps import Ciphertext


def expect_whole(materials: Sequence[Material], ciphertexts: Sequence[Ciphertext]) -> None:
    """See that there is one ciphertext for each material, in their order.

    Raises Rejected for a request without materials; ValueError when the ciphertexts are not those of the materials.
    """
    if not materials:
        raise Rejected("the request names no ciphertext")
    if [entry.handle for entry in ciphertexts] != [material.handle for material in materials]:
        raise ValueError("the ciphertexts are not those of the request")
