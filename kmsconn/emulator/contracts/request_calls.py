"""Calldata of decryption requests as users and relayers make it, signed where users sign. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn.emulator.contracts import user_rules
from kmsconn.emulator.contracts.decryption import DIRECT_CALL, UNIFIED_CALL
from kmsconn.emulator.contracts.gateway_config import chain_of
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import hash_struct, signing_digest
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.fhevm.abi import DECRYPTION

DEFAULT_DAYS = 30


@attrs.frozen
class Asking:
    """What all requests of one user have in common."""

    decryption: Address
    public_key: bytes
    start: int
    contracts: tuple[Address, ...]
    days: int = DEFAULT_DAYS
    extra_data: bytes = b""


def public_request(handles: Sequence[bytes], extra_data: bytes = b"") -> bytes:
    """Return the call for a public decryption."""
    return DECRYPTION.function("publicDecryptionRequest").encode(tuple(handles), extra_data)


def direct_request(asking: Asking, user: PrivateKey, pairs: user_rules.Pairs) -> bytes:
    """Return the legacy call of a user for own handles."""
    chain_id = chain_of(pairs[0][0])
    values = (asking.public_key, asking.contracts, asking.start, asking.days, asking.extra_data)
    signature = _sign(asking, user, chain_id, user_rules.DIRECT_TYPE, *values)
    return DECRYPTION.function(DIRECT_CALL).encode(
        tuple(pairs),
        (asking.start, asking.days),
        (chain_id, asking.contracts),
        user.address,
        asking.public_key,
        signature,
        asking.extra_data,
    )


def delegated_request(
    asking: Asking, delegate: PrivateKey, delegator: Address, pairs: user_rules.Pairs
) -> bytes:
    """Return the legacy call of a delegate for another's handles."""
    chain_id = chain_of(pairs[0][0])
    values = (asking.public_key, asking.contracts, delegator, asking.start, asking.days, asking.extra_data)
    signature = _sign(asking, delegate, chain_id, user_rules.DELEGATED_TYPE, *values)
    return DECRYPTION.function("delegatedUserDecryptionRequest").encode(
        tuple(pairs),
        (asking.start, asking.days),
        (delegator, delegate.address),
        (chain_id, asking.contracts),
        asking.public_key,
        signature,
        asking.extra_data,
    )


def unified_request(
    asking: Asking,
    user: Address,
    entries: Sequence[tuple[bytes, Address, Address]],
    signature: bytes,
) -> bytes:
    """Return the unified call: entries of handle, contract and owner; any signature, see ``sign_unified``."""
    validity = (asking.start, asking.days * user_rules.SECONDS_PER_DAY)
    arguments = (
        tuple(entries),
        user,
        asking.public_key,
        asking.contracts,
        validity,
        signature,
        asking.extra_data,
    )
    return DECRYPTION.function(UNIFIED_CALL).encode(*arguments)


def sign_unified(asking: Asking, signer: PrivateKey, user: Address, host_chain: int) -> bytes:
    """Sign a unified request of ``user`` (who is the signer, or a wallet that the signer owns)."""
    seconds = asking.days * user_rules.SECONDS_PER_DAY
    values = (user, asking.public_key, asking.contracts, asking.start, seconds, asking.extra_data)
    return _sign(asking, signer, host_chain, user_rules.UNIFIED_TYPE, *values)


def _sign(asking: Asking, key: PrivateKey, chain_id: int, type_string: str, *values: object) -> bytes:
    domain = user_rules.request_domain(asking.decryption, chain_id)
    return key.sign(signing_digest(domain, hash_struct(type_string, *values)))
