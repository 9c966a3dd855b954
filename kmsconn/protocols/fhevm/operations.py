"""What all operations of fhevm have in common: where the contracts are, errors, extraData, requests to the Core.

Never a whole request, and never asks a chain.
Source: fhevm-0.14.md, 5.1-5.3, section 6 and annex A; fhevm-0.15.md, 4.2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.config.description import CompressedKeySets
from kmsconn.config.settings import Settings
from kmsconn.errors import Rejected
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Content, Order
from kmsconn.protocols.core_messages import domain_message
from kmsconn.protocols.deployments import name_revert
from kmsconn.protocols.fhevm.access import AccessControl
from kmsconn.protocols.fhevm.contracts import ALL_ERRORS, DecryptionViews, GatewayViews, KeyViews
from kmsconn.protocols.port import Numbering, Operation, Revert, Verdict
from kmsconn.protocols.protobuf import shared
from kmsconn.protocols.queries import ContractQuery, QueryPlan


@attrs.frozen
class Deployment:
    """Decryption on the Gateway, KMSGeneration and ProtocolConfig on Ethereum, each as the domain that names its place too.

    ``compressed_key_sets``: whether fresh keys are.
    ``preprocessing_ids``: those of keys that an epoch is told instead of what the contract says.
    """

    decryption: Domain
    generation: Domain
    config: Domain
    gateway_config: GatewayViews
    erc1271_gas: int
    compressed_key_sets: CompressedKeySets
    preprocessing_ids: Mapping[int, int]
    keys: KeyViews
    """The questions to the two contracts on Ethereum."""
    decryptions: DecryptionViews
    """The questions to Decryption."""
    access: AccessControl
    """The access control of the host chains, chosen by the chain id of a handle."""

    @classmethod
    def of(cls, settings: Settings) -> Deployment:
        """Return the deployment that the settings name."""
        gateway, ethereum = settings.chains.gateway.chain_id, settings.chains.ethereum.chain_id
        named = settings.protocol
        generation, config = named.kms_generation_contract, named.protocol_config_contract
        return cls(
            decryption=named.decryption_contract.domain(gateway),
            generation=generation.domain(ethereum),
            config=config.domain(ethereum),
            gateway_config=GatewayViews(gateway, named.gateway_config_contract.address),
            erc1271_gas=named.erc1271_gas_limit,
            compressed_key_sets=named.compressed_key_sets,
            preprocessing_ids=named.preprocessing_ids,
            keys=KeyViews.at(ethereum, generation.address, config.address),
            decryptions=DecryptionViews(gateway, named.decryption_contract.address),
            access=AccessControl(
                {host.chain.chain_id: host.acl for host in settings.chains.host_chains},
                settings.chains.not_served.keys(),
            ),
        )


SIGNING_SCHEMES = [kms.SigningSchemeType.ECDSA256K1]
"""What every request asks for: the contracts take no other signature. Cores of 0.14 skip it (0.15: 4.2)."""


@lru_cache(1024)
def request_id(identifier: int) -> kms.RequestId:
    """Return an id as the Core knows it."""
    return shared(kms.RequestId(id_hex(identifier)))


def under_context(content: UnderContext, domain: Domain) -> dict[str, Any]:
    """Return what every request under a context says (5.2-5.4)."""
    context_id, epoch_id = (None if one is None else request_id(one) for one in content.context)
    return {
        "request_id": request_id(content.id),
        "domain": domain_message(kms, domain),
        "context_id": context_id,
        "epoch_id": epoch_id,
        "signing_schemes": SIGNING_SCHEMES,
    }


C = TypeVar("C", bound=Content)
IdCounter = tuple[int, Callable[[Deployment], ContractQuery[int]]]
"""The tag of the ids that a contract gives out, and the question for the newest."""


class UnderContext(Content):
    """A request whose extraData names the context and the epoch that must be valid; it ends with them."""

    __slots__ = ()

    @property
    @abstractmethod
    def extra_data(self) -> bytes:
        """What the event says of the context."""

    @property
    def context(self) -> tuple[int | None, int | None]:
        """Context and epoch as extraData names them. Raises Rejected for extraData of no known form."""
        return parse_extra_data(self.extra_data)

    @property
    def order(self) -> Order:
        """It is over once its context or its epoch was destroyed."""
        return Order(under=frozenset([one for one in self.context if one is not None]))


class FhevmOperation(Operation[C]):
    """A row of this generation. ``in_doubt``: the error of a reply that says too little, so that the contract is asked what it means.

    ``counter``: how the contract numbers these requests, None where it does not; ``before_first`` as in ``Numbering``.
    """

    in_doubt: ClassVar[str] = ""
    counter: ClassVar[IdCounter | None] = None
    before_first = 0

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    identified = staticmethod(request_id)

    def numbering(self) -> Numbering | None:
        """Return how the contract numbers these requests (annex E); None where it does not."""
        if self.counter is None:
            return None
        tag, newest = self.counter
        return Numbering(self.kind, tag, newest(self.deployment), self.before_first)

    def revert(self, data: bytes | None) -> Revert:
        """Name a revert, with the question that tells what it means where its name alone does not (annex A)."""
        revert = name_revert(ALL_ERRORS, self.verdicts, data)
        if revert.name != self.in_doubt:
            return revert
        identifier = int(revert.arguments[0], 16)
        return attrs.evolve(revert, plan=lambda: self.verdict_on(identifier))

    def verdict_on(self, identifier: int) -> QueryPlan[Verdict]:
        """Ask what the error ``in_doubt`` means, which names this context or epoch."""
        raise NotImplementedError


_CONTEXT_ONLY, _CONTEXT_AND_EPOCH = 1, 2
_CONTEXT, _EPOCH = slice(1, 33), slice(33, 65)


@lru_cache(256)
def parse_extra_data(extra_data: bytes) -> tuple[int | None, int | None]:
    """Return context and epoch, None where not named. Raises Rejected for an unknown version or too few bytes."""
    version = extra_data[0] if extra_data else 0
    if version == 0:
        return None, None
    if version == _CONTEXT_ONLY:
        return _id_in(extra_data, _CONTEXT), None
    if version == _CONTEXT_AND_EPOCH:
        return _id_in(extra_data, _CONTEXT), _id_in(extra_data, _EPOCH)
    raise Rejected(f"extraData version {version} is not known")


def build_extra_data(context_id: int | None, epoch_id: int | None) -> bytes:
    """Return the shortest extraData that names these. Raises ValueError for an epoch without context."""
    if context_id is None:
        if epoch_id is not None:
            raise ValueError("an epoch needs its context")
        return b""
    if epoch_id is None:
        return bytes([_CONTEXT_ONLY]) + context_id.to_bytes(32)
    return bytes([_CONTEXT_AND_EPOCH]) + context_id.to_bytes(32) + epoch_id.to_bytes(32)


def normalise_extra_data(extra_data: bytes) -> bytes:
    """Return what a decryption's Core request carries: the single byte 0x00 becomes empty, all else stays (6.3)."""
    return b"" if extra_data == b"\0" else extra_data


def _id_in(extra_data: bytes, place: slice) -> int:
    if len(extra_data) < place.stop:
        raise Rejected(f"extraData of version {extra_data[0]} ends after {len(extra_data)} bytes")
    return int.from_bytes(extra_data[place])
