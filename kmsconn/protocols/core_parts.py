"""What requests to the Core are made of in every generation: ids, domain, ciphertexts. Never a whole request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from kmsconn.errors import Rejected
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Material
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.proto_writer import bytes_field, header, int_field, text_field

_TYPE_BYTE = 30


@lru_cache(4096)  # a context's and an epoch's come in every request, a request's own twice
def request_id(identifier: int) -> bytes:
    """Return a RequestId message."""
    return text_field(1, id_hex(identifier))


def domain_message(domain: Domain) -> bytes:
    """Return an Eip712DomainMsg: 32-byte chain id, EIP-55 address, no salt (fhevm-0.14.md, 5.3; httpz-rc7.md, 3.2)."""
    return b"".join(
        [
            text_field(1, domain.name),
            text_field(2, domain.version),
            bytes_field(3, domain.chain_id.to_bytes(32)),
            text_field(4, checksum(domain.verifying_contract)),
        ]
    )


def ciphertext_fields(ciphertexts: Sequence[Ciphertext]) -> Iterator[bytes]:
    """Yield the fields number 2, each body a piece of its own."""
    for entry in ciphertexts:
        before = header(1, len(entry.body)) if entry.body else b""
        after = (
            int_field(2, entry.handle[_TYPE_BYTE]) + bytes_field(3, entry.handle) + int_field(4, entry.format)
        )
        yield header(2, len(before) + len(entry.body) + len(after)) + before
        yield entry.body
        yield after


def expect_whole(materials: Sequence[Material], ciphertexts: Sequence[Ciphertext]) -> None:
    """See that there is one ciphertext for each material, in their order.

    Raises Rejected for a request without materials; ValueError when the ciphertexts are not those of the materials.
    """
    if not materials:
        raise Rejected("the request names no ciphertext")
    if [entry.handle for entry in ciphertexts] != [material.handle for material in materials]:
        raise ValueError("the ciphertexts are not those of the request")
