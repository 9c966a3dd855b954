"""What requests to the Core of the first generation have in common: ids, the domain, ciphertexts. Never a whole request.

Source: httpz-rc7.md, 3.2, 8.2 and 8.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.handles import fhe_type_of
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.port import CoreCall
from kmsconn.protocols.proto_writer import encode


def request_id(identifier: int) -> kms.RequestId:
    """Return an id as the Core knows it."""
    return kms.RequestId(id_hex(identifier))


@lru_cache
def domain_message(domain: Domain) -> kms.Eip712DomainMsg:
    """Return a domain with its chain id in 32 bytes, its address by EIP-55, and no salt (3.2)."""
    return kms.Eip712DomainMsg(
        name=domain.name,
        version=domain.version,
        chain_id=domain.chain_id.to_bytes(32),
        verifying_contract=checksum(domain.verifying_contract),
    )


def typed_ciphertexts(ciphertexts: Sequence[Ciphertext]) -> list[kms.TypedCiphertext]:
    """Return ciphertexts in their order, each with the FHE type that its handle names; their bytes are not copied."""
    return [
        kms.TypedCiphertext(
            ciphertext=entry.body,
            fhe_type=kms.FheType(fhe_type_of(entry.handle)),
            external_handle=entry.handle,
            ciphertext_format=kms.CiphertextFormat(entry.format),
        )
        for entry in ciphertexts
    ]


def long_poll(method: str, identifier: int) -> CoreCall:
    """Return the call that waits for a result."""
    return CoreCall(method, encode(request_id(identifier)), identifier)
