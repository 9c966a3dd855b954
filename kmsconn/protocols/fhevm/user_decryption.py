"""User decryption: reveal values to one user, by a legacy request (G2) or by one that carries all that is to be checked (G3).

Where a request can be judged from its own bytes, no question is made: Rejected when it can never be answered, NotYet when it can later.
Source: fhevm-0.14.md, 1.3, 1.4, 2.1-2.4, 3.3, 3.4, 5.3; annexes C and E.1; outcomes: rows "check" and "answer".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Broken, Rejected, WindowNotOpen, WindowOver
from kmsconn.ethereum.abi import Domain, Function, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.ids import USER_DECRYPTION_TAG, chain_id_of, id_hex
from kmsconn.ethereum.signing import recover
from kmsconn.model.life import Answer, Ciphertext
from kmsconn.model.requests import CiphertextReference, Kind, PoolName
from kmsconn.protocols import bincode
from kmsconn.protocols.core_messages import (
    DEPENDENCY,
    expect_count,
    payload_of,
    read_message,
    signature_of,
    signer_of,
    typed_ciphertexts,
)
from kmsconn.protocols.fhevm.access import AccessControl, handles_of, read_call, wallet_agrees
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.decryptions import (
    LATER,
    REFERENCES,
    Decryption,
    DecryptionOperation,
    extra_data_of,
    key_id,
    references_of,
)
from kmsconn.protocols.fhevm.operations import (
    Deployment,
    IdCounter,
    normalise_extra_data,
    request_id,
    under_context,
)
from kmsconn.protocols.port import Facts, RequestEvent, id_in_topic
from kmsconn.protocols.queries import ContractQuery

_PAYLOAD = "(address,bytes,address[],(uint256,uint256),bytes,bytes)"
_ENTRIES = "(bytes32,address,address)[]"
LEGACY = DECRYPTION.event(f"UserDecryptionRequest(uint256,{REFERENCES},address,bytes,bytes)")
UNIFIED = DECRYPTION.event(f"UserDecryptionRequest(uint256,{REFERENCES},{_ENTRIES},{_PAYLOAD})")
LATER_LEGACY = LATER["UserDecryptionRequest(uint256,bytes32[],address,bytes,bytes)"]
LATER_UNIFIED = LATER[f"UserDecryptionRequest(uint256,{_ENTRIES},{_PAYLOAD})"]
RESPONSE = DECRYPTION.function("userDecryptionResponse")
SIGNED_TYPE = (
    "UserDecryptResponseVerification("
    "bytes publicKey,bytes32[] ctHandles,bytes userDecryptedShare,bytes extraData)"
)
REQUEST_TYPE = (
    "UserDecryptRequestVerification(address userAddress,bytes publicKey,address[] allowedContracts,"
    "uint256 startTimestamp,uint256 durationSeconds,bytes extraData)"
)


class UserDecryption(Decryption):
    """A request to reveal values to one user, in either form."""

    __slots__ = ()

    user: Address
    public_key: bytes

    def questions(self, deployment: Deployment, facts: Facts) -> Iterator[ContractQuery[None]]:
        """Yield all that the host chains must be asked, in the order of the specification."""
        raise NotImplementedError


@attrs.frozen
class LegacyUserDecryption(UserDecryption):
    """A request whose owners and contracts stand in the calldata of its transaction (G2)."""

    id: int
    references: tuple[CiphertextReference, ...]
    user: Address
    public_key: bytes
    extra_data: bytes

    kind = Kind.USER_DECRYPTION
    needs_transaction = True

    @classmethod
    def read(cls, identifier: int, references: Any, *rest: Any) -> LegacyUserDecryption:
        """Return what the event asks for, in either form."""
        return cls(identifier, references_of(references), *rest)

    def later_form(self) -> tuple[tuple[bytes, ...], bytes]:
        """Return topics and data of the later form of the event."""
        rest = (self.user, self.public_key, self.extra_data)
        return LATER_LEGACY.encode(self.id, tuple(self.raw_handles), *rest)

    def questions(self, deployment: Deployment, facts: Facts) -> Iterator[ContractQuery[None]]:
        """Ask for the user and each contract of a handle, or for what its owner delegated (3.3). Raises Rejected."""
        handles = handles_of(self.references)
        access = deployment.access
        call = read_call(deployment.decryption.verifying_contract, facts.to, facts.input)
        for handle in handles:
            listed = call.contracts_of(handle)
            if call.delegator is None:
                yield from (access.allowed(handle, account) for account in (self.user, *listed))
            else:
                for contract in listed:
                    yield access.delegated(handle, call.delegator, self.user, contract)


@attrs.frozen
class HandleEntry:
    """A handle of a unified request with the contract it is used in and the account that owns it."""

    handle: bytes
    contract: Address
    owner: Address


@attrs.frozen
class UnifiedUserDecryption(UserDecryption):
    """A request that carries all that is to be checked, with the user's signature (G3). Times in Unix seconds."""

    id: int
    references: tuple[CiphertextReference, ...]
    handles: tuple[HandleEntry, ...]
    user: Address
    public_key: bytes
    allowed_contracts: tuple[Address, ...]
    start: int
    duration: int
    extra_data: bytes
    signature: bytes

    kind = Kind.USER_DECRYPTION

    @property
    def valid_until(self) -> int:
        """The end of the window that the user signed."""
        return self.start + self.duration

    @classmethod
    def read(cls, identifier: int, references: Any, handles: Any, payload: Any) -> Self:
        """Return what the event asks for."""
        user, public_key, allowed_contracts, (start, duration), extra_data, signature = payload
        return cls(
            id=identifier,
            references=references_of(references),
            handles=tuple(HandleEntry(*entry) for entry in handles),
            user=user,
            public_key=public_key,
            allowed_contracts=allowed_contracts,
            start=start,
            duration=duration,
            extra_data=extra_data,
            signature=signature,
        )

    @classmethod
    def read_later(cls, identifier: int, entries: Any, payload: Any) -> Self:
        """Return what the later form of the event asks for."""
        return cls.read(identifier, (handle for handle, _, _ in entries), entries, payload)

    def values(self) -> tuple[Any, Any]:
        """Return the values of the event: the handles' entries, and the payload that ends with the user's signature."""
        entries = tuple((entry.handle, entry.contract, entry.owner) for entry in self.handles)
        signed = (
            self.user,
            self.public_key,
            self.allowed_contracts,
            (self.start, self.duration),
            self.extra_data,
        )
        return entries, (*signed, self.signature)

    def later_form(self) -> tuple[tuple[bytes, ...], bytes]:
        """Return topics and data of the later form of the event."""
        return LATER_UNIFIED.encode(self.id, *self.values())

    def questions(self, deployment: Deployment, facts: Facts) -> Iterator[ContractQuery[None]]:
        """Ask for the signature where it is not the user's own, its end, and the user's right to each handle (3.4).

        Raises Rejected, or NotYet before its validity begins.
        """
        handles = handles_of(self.references)
        self._check(handles, facts.chain_time)
        access = deployment.access
        yield from self._wallet(deployment, chain_id_of(handles[0]), facts)
        yield access.not_invalidated(handles[0], self.user, self.start)
        for handle, entry in zip(handles, self.handles, strict=True):
            yield self._owned(access, handle, entry)
        for handle in handles:
            yield from access.allowed_for_one(handle, self.allowed_contracts)

    def _check(self, handles: list[bytes], chain_time: float) -> None:
        """Judge the request from its own bytes. Raises Rejected, or NotYet before its validity begins."""
        if [entry.handle for entry in self.handles] != handles:
            raise Rejected("handles and ciphertext references of the request are not the same")
        if len(set(map(chain_id_of, handles))) > 1:
            raise Rejected("the handles of the request are of several host chains")
        if self.user in self.allowed_contracts:
            raise Rejected("the user is among the allowed contracts")
        if chain_time > self.valid_until:
            raise WindowOver(f"expired: the request was valid until {self.valid_until}")
        if chain_time < self.start:
            raise WindowNotOpen(f"the request is valid from {self.start} on")

    def _wallet(self, deployment: Deployment, chain_id: int, facts: Facts) -> Iterator[ContractQuery[None]]:
        """Ask the user's contract about the signature, where the user's own key did not make it."""
        digest = unified_digest(deployment.decryption, chain_id, self)
        if recover(digest, self.signature) != self.user:
            yield wallet_agrees(
                chain_id,
                self.user,
                digest,
                self.signature,
                gas=deployment.erc1271_gas,
                age=facts.age,
                domain_confirmed=facts.domain_confirmed,
            )

    def _owned(self, access: AccessControl, handle: bytes, entry: HandleEntry) -> ContractQuery[None]:
        if entry.owner == self.user:
            return access.allowed(handle, self.user)
        return access.delegated(handle, entry.owner, self.user, entry.contract)


class UserDecryptions(DecryptionOperation[UserDecryption]):
    """The row of user decryption. A reply that completes a request needs more gas: recorded were 9,500 for each signature before."""

    kind = Kind.USER_DECRYPTION
    pool = PoolName.USER_DECRYPTION
    events: tuple[RequestEvent, ...] = (
        RequestEvent(LEGACY, LegacyUserDecryption.read, id_in_topic(1)),
        RequestEvent(UNIFIED, UnifiedUserDecryption.read, id_in_topic(1)),
        RequestEvent(LATER_LEGACY, LegacyUserDecryption.read, id_in_topic(1)),
        RequestEvent(LATER_UNIFIED, UnifiedUserDecryption.read_later, id_in_topic(1)),
    )
    reply: Function | None = RESPONSE
    counter: ClassVar[IdCounter | None] = USER_DECRYPTION_TAG, lambda at: at.decryptions.newest_user_id()
    spare_gas = 50_000
    start, result, at_once = "UserDecrypt", "GetUserDecryptionResult", "UserDecryptSync"

    def checks(self, content: UserDecryption, facts: Facts) -> tuple[ContractQuery[None], ...]:
        """Ask what the form of the request wants. Raises Rejected, NotYet, Misconfigured."""
        return tuple(content.questions(self.deployment, facts))

    def request(self, content: UserDecryption, gathered: Sequence[Ciphertext]) -> kms.UserDecryptionRequest:
        """Return the message for the Core (5.3). Raises Rejected also for ciphertexts under different keys."""
        return kms.UserDecryptionRequest(
            **under_context(content, self.deployment.decryption),
            typed_ciphertexts=typed_ciphertexts(kms, content.references, gathered),
            key_id=request_id(key_id(content, gathered)),
            client_address=checksum(content.user),
            enc_key=content.public_key,
            extra_data=normalise_extra_data(content.extra_data),
        )

    def read_answer(
        self,
        content: UserDecryption,
        reply: bytes | None,
        expected: Address | None,
    ) -> Answer:
        """Read the share, recover who signed it and build the reply (2.3, 2.4). Raises Broken."""
        message = read_message(kms.UserDecryptionResponse, reply or b"")
        payload, handles = payload_of(message), content.raw_handles
        expect_count(len(handles), payload.signcrypted_ciphertexts)
        if [entry.external_handle for entry in payload.signcrypted_ciphertexts] != handles:
            raise Broken(DEPENDENCY, f"the answer to {id_hex(content.id)} is for other handles")
        share = bincode.encode(payload)
        extra_data = extra_data_of(content, message)
        digest = user_digest(self.deployment.decryption, content.public_key, handles, share, extra_data)
        signature = signature_of(message)
        signer = signer_of(digest, signature)
        return Answer(RESPONSE.encode(content.id, share, signature, extra_data), signer)

    def may_vary(self, parameter: str, one: Any, other: Any) -> bool:
        """Say so of the signature, and of a share whose ciphertexts alone differ."""
        if parameter == "userDecryptedShare":
            return bincode.same_but_ciphertexts(one, other)
        return super().may_vary(parameter, one, other)


def unified_digest(gateway: Domain, chain_id: int, content: UnifiedUserDecryption) -> bytes:
    """Return what the user signs: under the host chain's id, extraData as in the event (3.4, vector B.8)."""
    domain = _on_host(gateway, chain_id)
    struct_hash = hash_struct(
        REQUEST_TYPE,
        content.user,
        content.public_key,
        content.allowed_contracts,
        content.start,
        content.duration,
        content.extra_data,
    )
    return signing_digest(domain, struct_hash)


def user_digest(
    domain: Domain, public_key: bytes, handles: Sequence[bytes], share: bytes, extra_data: bytes
) -> bytes:
    """Return what a node signs for a user decryption; ``share`` is the bincode image (2.4)."""
    return signing_digest(domain, hash_struct(SIGNED_TYPE, public_key, handles, share, extra_data))


@lru_cache
def _on_host(gateway: Domain, chain_id: int) -> Domain:
    return attrs.evolve(gateway, chain_id=chain_id)
