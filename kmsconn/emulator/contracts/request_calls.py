"""Decryption requests as users and relayers make them, signed where users sign. Sends and stores nothing.

Source: fhevm-0.14.md, 1.6 and 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from kmsconn.emulator.contracts.gateway_config import chain_of
from kmsconn.ethereum.abi import Domain, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.fhevm.contracts import DECRYPTION

DIRECT_CALL = "userDecryptionRequest((bytes32,address)[],(uint256,uint256),(uint256,address[]),address,bytes,bytes,bytes)"
DELEGATED_CALL = "delegatedUserDecryptionRequest"
UNIFIED_CALL = (
    "userDecryptionRequest((bytes32,address,address)[],address,bytes,address[],(uint256,uint256),bytes,bytes)"
)
SECONDS_PER_DAY = 86_400
DIRECT_TYPE = (
    "UserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,"
    "uint256 startTimestamp,uint256 durationDays,bytes extraData)"
)
DELEGATED_TYPE = (
    "DelegatedUserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,"
    "address delegatorAddress,uint256 startTimestamp,uint256 durationDays,bytes extraData)"
)
UNIFIED_TYPE = (
    "UserDecryptRequestVerification(address userAddress,bytes publicKey,address[] allowedContracts,"
    "uint256 startTimestamp,uint256 durationSeconds,bytes extraData)"
)

Pairs = Sequence[tuple[bytes, Address]]
Entries = Sequence[tuple[bytes, Address, Address]]


def request_domain(decryption: Address, host_chain: int) -> Domain:
    """Return the domain that users sign under: the Gateway's contract with the host chain's id."""
    return Domain("Decryption", "1", host_chain, decryption)


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


FORMS = ("public", "direct", "delegated", "unified", "unified_delegated", "wallet")


@attrs.frozen
class Formed:
    """A request of a form: who owns the values, who gets them (None: everybody), and the call."""

    owner: Address
    client: Address | None
    calldata: bytes


def request_of(
    form: str, handles: Sequence[bytes], asking: Asking, wallet: Address, key_for: Callable[[str], PrivateKey]
) -> Formed:
    """Return a request as a user makes it, a delegate of another's values, or a contract wallet (ERC-1271). Raises KeyError."""
    contract, user, delegate = asking.contracts[0], key_for("user"), key_for("delegate")
    another, pairs = key_for("owner").address, [(handle, contract) for handle in handles]
    match form:
        case "public":
            return Formed(another, None, public_request(handles, asking.extra_data))
        case "direct":
            return Formed(user.address, user.address, legacy_request(asking, user, pairs))
        case "delegated":
            return Formed(another, delegate.address, legacy_request(asking, delegate, pairs, another))
    signer, client, owner = {
        "unified": (user, user.address, user.address),
        "unified_delegated": (delegate, delegate.address, another),
        "wallet": (key_for("wallet owner"), wallet, wallet),
    }[form]
    signature = sign_unified(asking, signer, client, chain_of(handles[0]))
    entries = [(handle, contract, owner) for handle in handles]
    return Formed(owner, client, unified_request(asking, client, entries, signature))


def legacy_request(asking: Asking, user: PrivateKey, pairs: Pairs, delegator: Address | None = None) -> bytes:
    """Return the legacy call of a user for own handles, or of a delegate for those of ``delegator``."""
    chain_id, validity = chain_of(pairs[0][0]), (asking.start, asking.days)
    key, contracts, extra = asking.public_key, asking.contracts, asking.extra_data
    domain = request_domain(asking.decryption, chain_id)
    who: tuple[object, object]
    if delegator is None:
        struct_hash = hash_struct(DIRECT_TYPE, key, contracts, *validity, extra)
        function, who = DIRECT_CALL, ((chain_id, contracts), user.address)
    else:
        struct_hash = hash_struct(DELEGATED_TYPE, key, contracts, delegator, *validity, extra)
        function, who = DELEGATED_CALL, ((delegator, user.address), (chain_id, contracts))
    signature = user.sign(signing_digest(domain, struct_hash))
    return DECRYPTION.function(function).encode(tuple(pairs), validity, *who, key, signature, extra)


def unified_request(asking: Asking, user: Address, entries: Entries, signature: bytes) -> bytes:
    """Return the unified call: entries of handle, contract and owner; any signature, see ``sign_unified``."""
    validity = (asking.start, asking.days * SECONDS_PER_DAY)
    tail = (asking.contracts, validity, signature, asking.extra_data)
    return DECRYPTION.function(UNIFIED_CALL).encode(tuple(entries), user, asking.public_key, *tail)


def sign_unified(asking: Asking, signer: PrivateKey, user: Address, host_chain: int) -> bytes:
    """Sign a unified request of ``user`` (who is the signer, or a wallet that the signer owns)."""
    seconds = asking.days * SECONDS_PER_DAY
    values = (user, asking.public_key, asking.contracts, asking.start, seconds, asking.extra_data)
    domain = request_domain(asking.decryption, host_chain)
    return signer.sign(signing_digest(domain, hash_struct(UNIFIED_TYPE, *values)))
