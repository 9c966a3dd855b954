"""What requests to the Core have in common: ids, the domain, ciphertexts, the signing schemes. Never a whole request.

Source: fhevm-0.14.md, 5.1-5.3; fhevm-0.15.md, 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import fhe_type_of, id_hex
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.port import CoreCall
from kmsconn.protocols.proto_writer import encode

SIGNING_SCHEMES = [kms.SigningSchemeType.ECDSA256K1]
"""What every request asks for: the contracts take no other signature. Cores of 0.14 skip it (0.15: 4.2)."""


def request_id(identifier: int) -> kms.RequestId:
    """Return an id as the Core knows it."""
    return kms.RequestId(id_hex(identifier))


def optional_id(identifier: int | None) -> kms.RequestId | None:
    """Return the id of a context or epoch, where the request names one."""
    return None if identifier is None else request_id(identifier)


@lru_cache
def domain_message(domain: Domain) -> kms.Eip712DomainMsg:
    """Return a domain with its chain id in 32 bytes, its address by EIP-55, and no salt (5.3)."""
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
            fhe_type=fhe_type_of(entry.handle),
            external_handle=entry.handle,
            ciphertext_format=kms.CiphertextFormat(entry.format),
        )
        for entry in ciphertexts
    ]


def long_poll(method: str, identifier: int, shard: int) -> CoreCall:
    """Return the call that waits for a result; it goes where the start went (5.5)."""
    return CoreCall(method, encode(request_id(identifier)), shard)
