"""Decryption over HTTP: the operations of the chain's requests, of which no contract tells and to which none is replied.

Contents are those of the chain's forms under an id of their own, the EIP-712 hash of all that they say. Their event is synthetic: a log
of no chain, under a topic of its own, that keeps the content in the journal as an event does.
Source: fhevm-0.15.md, 5.2, 5.3 and 5.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Event, Function, Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import hash_struct, signing_digest_under
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import NO_BLOCK, Kind, PoolName
from kmsconn.model.steps import Answer
from kmsconn.protocols.fhevm import public_decryption, user_decryption, views
from kmsconn.protocols.fhevm.decryptions import Decryption, bare_references
from kmsconn.protocols.fhevm.deployment import Deployment
from kmsconn.protocols.fhevm.public_decryption import PublicDecryption, PublicDecryptions
from kmsconn.protocols.fhevm.user_decryption import HandleEntry, UnifiedUserDecryption, UserDecryptions
from kmsconn.protocols.port import Numbering, Posted, RequestEvent, id_in_topic
from kmsconn.protocols.queries import ContractQuery, StorageRead

HTTP_LIFETIME: Final = 3600.0
"""Seconds for which a request over HTTP is worked on, whether or not somebody still waits for it."""

HTTP_PATIENCE: Final = 3.0
"""Seconds since it was asked for until its last try for what may be a dependency's fault: a relayer gives up after five."""

ATTESTATION_TYPE: Final = "eip712-unified-user-decrypt-v1"
"""The one form of a user's permit that is known: the signature of the unified request (0.14 3.4)."""

PUBLIC_TYPE = "PublicDecryptionRequest(bytes32[] ctHandles,bytes extraData)"
USER_TYPE = (
    "UserDecryptionRequest(string attestationType,UserDecryptionPayload payload,bytes signature)"
    "HandleEntry(bytes32 handle,address contractAddress,address ownerAddress)"
    "RequestValidity(uint64 startTimestamp,uint64 durationSeconds)"
    "UserDecryptionPayload(HandleEntry[] handles,address userAddress,bytes publicKey,address[] allowedContracts,"
    "RequestValidity requestValidity,bytes extraData)"
)
DOMAIN_SEPARATOR = hash_struct("EIP712Domain(string name,string version)", "kms-connector-decryption", "1")
"""The domain of ids has two fields: an id names a content, whichever network it is for."""


@attrs.frozen
class HttpPublicDecryption(PublicDecryption):
    """A request over HTTP to reveal values to everybody."""

    kind = Kind.HTTP_PUBLIC_DECRYPTION

    @classmethod
    def of(cls, handles: Sequence[bytes], extra_data: bytes) -> HttpPublicDecryption:
        """Return the content with its id (5.3)."""
        struct_hash = hash_struct(PUBLIC_TYPE, handles, extra_data)
        return cls(_id(struct_hash), bare_references(handles), extra_data)


@attrs.frozen
class HttpUserDecryption(UnifiedUserDecryption):
    """A request over HTTP to reveal values to one user, with all that is to be checked."""

    kind = Kind.HTTP_USER_DECRYPTION

    @classmethod
    def of(cls, handles: Sequence[HandleEntry], **values: Any) -> HttpUserDecryption:
        """Return the content with its id (5.3), which covers the user's signature."""
        references = bare_references(entry.handle for entry in handles)
        content = cls(id=0, references=references, handles=tuple(handles), **values)
        return attrs.evolve(content, id=_id(content.struct_hash()))

    def struct_hash(self) -> bytes:
        """Return the hash of the body as a struct of EIP-712."""
        payload = (
            [(entry.handle, entry.contract, entry.owner) for entry in self.handles],
            self.user,
            self.public_key,
            self.allowed_contracts,
            (self.start, self.duration),
            self.extra_data,
        )
        return hash_struct(USER_TYPE, ATTESTATION_TYPE, payload, self.signature)


def _id(struct_hash: bytes) -> int:
    return int.from_bytes(signing_digest_under(DOMAIN_SEPARATOR, struct_hash))


_USER_VALUES = "(bytes32,address,address)[],address,bytes,address[],(uint64,uint64),bytes,bytes"


def _event(name: str, values: str, count: int) -> Event:
    signature = f"{name}(uint256,{values})"
    return Event(name, signature, keccak256(signature.encode()), (True, *(False,) * count))


PUBLIC_EVENT = _event("HttpPublicDecryption", "bytes32[],bytes", 2)
USER_EVENT = _event("HttpUserDecryption", _USER_VALUES, 7)
"""The synthetic events: the id as a topic, and what stands in the body."""

D = TypeVar("D", HttpPublicDecryption, HttpUserDecryption)


def _read_public(identifier: int, handles: tuple[bytes, ...], extra_data: bytes) -> HttpPublicDecryption:
    return _named(identifier, HttpPublicDecryption.of(handles, extra_data))


def _read_user(identifier: int, entries: Any, *values: Any) -> HttpUserDecryption:
    user, public_key, allowed_contracts, (start, duration), extra_data, signature = values
    content = HttpUserDecryption.of(
        tuple(HandleEntry(*entry) for entry in entries),
        user=user,
        public_key=public_key,
        allowed_contracts=allowed_contracts,
        start=start,
        duration=duration,
        extra_data=extra_data,
        signature=signature,
    )
    return _named(identifier, content)


def _named(identifier: int, content: D) -> D:
    if content.id != identifier:
        raise Undecodable(f"the content has the id {content.id:#x}, not {identifier:#x}")
    return content


class OverHttp(Posted):
    """What a contract would add is left out: a counter, a context of the request's time, the answer on chain, the reply."""

    deployment: Deployment
    lifetime = HTTP_LIFETIME
    patience = HTTP_PATIENCE
    reply: Function | None = None

    def numbering(self) -> Numbering | None:
        """Return nothing: ids are hashes."""
        return None

    def replying_context(self, content: Decryption) -> int | Sequence[ContractQuery[int]]:
        """Return the context of extraData; else ask for the Gateway's current one, for none was pinned."""
        named, _ = content.context
        if named is not None:
            return named
        return (views.current_context(self.deployment.gateway, self.deployment.gateway_config),)

    def has_answered(
        self, content: Decryption, signer: Address | None, tx_sender: Address
    ) -> StorageRead[bool] | None:
        """Return nothing: no contract gets the answer."""
        return None

    def _log(self, event: Event, *values: Any) -> Log:
        topics, data = event.encode(*values)
        return Log(self.deployment.decryption.verifying_contract, topics, data, NO_BLOCK, b"", b"", 0)


class HttpPublicDecryptions(OverHttp, PublicDecryptions):
    """The row of public decryption over HTTP."""

    kind = Kind.HTTP_PUBLIC_DECRYPTION
    pool = PoolName.HTTP_PUBLIC_DECRYPTION
    events = (RequestEvent(PUBLIC_EVENT, _read_public, id_in_topic(1)),)

    def log_of(self, content: HttpPublicDecryption) -> Log:
        """Return the synthetic log of a content."""
        return self._log(PUBLIC_EVENT, content.id, tuple(content.raw_handles), content.extra_data)

    def fields_of(self, answer: Answer) -> Mapping[str, bytes]:
        """Return what the response says: what the reply on chain would carry (5.5)."""
        _, result, signature, extra_data = public_decryption.RESPONSE.decode(answer.calldata)
        return {"decryptedResult": result, "signature": signature, "extraData": extra_data}


class HttpUserDecryptions(OverHttp, UserDecryptions):
    """The row of user decryption over HTTP."""

    kind = Kind.HTTP_USER_DECRYPTION
    pool = PoolName.HTTP_USER_DECRYPTION
    events = (RequestEvent(USER_EVENT, _read_user, id_in_topic(1)),)

    def log_of(self, content: HttpUserDecryption) -> Log:
        """Return the synthetic log of a content."""
        return self._log(
            USER_EVENT,
            content.id,
            tuple((entry.handle, entry.contract, entry.owner) for entry in content.handles),
            content.user,
            content.public_key,
            content.allowed_contracts,
            (content.start, content.duration),
            content.extra_data,
            content.signature,
        )

    def fields_of(self, answer: Answer) -> Mapping[str, bytes]:
        """Return what the response says: what the reply on chain would carry (5.5)."""
        _, share, signature, extra_data = user_decryption.RESPONSE.decode(answer.calldata)
        return {"userDecryptedShares": share, "signature": signature, "extraData": extra_data}
