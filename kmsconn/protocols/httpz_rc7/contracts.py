"""DecryptionManager, HTTPZ and KeyManager: their ABIs, questions to them, and what all operations have in common.

The main revision has ``bytes32`` handles; on the wire they are the same 32 bytes as the ``uint256`` handles of rc7. Getters of HTTPZ were
renamed on 9 April: where one is refused, or answers nothing, the other is asked instead. Structs grew and shrank too: the offset of the
first text tells them apart. Views never decide what an answer means for a request. There is one set of nodes, and one Core of that era.
Source: httpz-rc7.md, sections 0, 2.1, 2.2, 4.2, 8.4 and annex C; outcomes: deadlines.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from kmsconn.config.settings import Settings
from kmsconn.errors import Broken
from kmsconn.ethereum.abi import Abi, Domain, Function
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.model.requests import HTTPZ_RC7, Content
from kmsconn.protocols.core_messages import DEPENDENCY, signer_of
from kmsconn.protocols.deployments import name_revert, read_contracts, union_of_errors
from kmsconn.protocols.httpz_rc7.messages import PlaintextForm, request_id
from kmsconn.protocols.port import Meaning, Numbering, Operation, Reading, Revert, Verdict
from kmsconn.protocols.profile import Coprocessor
from kmsconn.protocols.queries import (
    ContractQuery,
    ContractViews,
    Instead,
    base_slot,
    flag,
    view_call,
    viewed,
)

_groups = read_contracts(HTTPZ_RC7)
CONTRACTS: dict[str, Abi] = _groups["contracts"]
"""Every contract of the main revision by its name."""

DECRYPTION_MANAGER = CONTRACTS["DecryptionManager"]
HTTPZ = CONTRACTS["HTTPZ"]
KEY_MANAGER = CONTRACTS["KeyManager"]
CURRENT_KEY = KEY_MANAGER.function("getCurrentKeyId")
"""Tells the key in use; 0 before the first."""

RC4: dict[str, Abi] = _groups["rc4"]
"""The interfaces of 14 March: no user address in user requests, flat values from getters."""

RC7: dict[str, Abi] = _groups["rc7"]
"""The interfaces of 27 March: handles are numbers, coprocessors and nodes have a ``daUrl``."""

RC9 = _groups["rc9_getters"]["HTTPZ"]
"""The getters of HTTPZ from 9 April on; nothing else changed."""

ALL_ERRORS: dict[bytes, Function] = union_of_errors(
    contract for group in _groups.values() for contract in group.values()
)
"""Errors of all contracts and revisions by selector: an error of a called contract comes through unchanged."""


T = TypeVar("T")

DECRYPTION_MANAGER_BASE = base_slot("httpz_gateway.storage.DecryptionManager")
KEY_MANAGER_BASE = base_slot("httpz_gateway.storage.KeyManager")

_WORD = 32
_TUPLE = (_WORD).to_bytes(_WORD)
_FIRST_TEXT = slice(3 * _WORD, 4 * _WORD)
_TEXT_AFTER_FOUR = (4 * _WORD).to_bytes(_WORD)


@attrs.frozen
class RequestViews(ContractViews):
    """Questions to DecryptionManager or KeyManager by slots of their namespace, which begins at ``base`` (annex C)."""

    base: int

    def newest(self, counter: int) -> ContractQuery[int]:
        """Ask which request is the newest, by the slot of its counter; 0 before the first."""
        return self.slot(self.base + counter)

    def has_answered(self, answers: int, identifier: int, account: Address) -> ContractQuery[bool]:
        """Ask whether an account's answer to a request, or to what it made, is in the contract."""
        return self.slot(self.base + answers, identifier, account, read=flag)


@attrs.frozen
class HttpzViews(ContractViews):
    """Questions to the contract HTTPZ."""

    def coprocessor(self, tx_sender: Address) -> ContractQuery[Coprocessor]:
        """Ask for one coprocessor; its bucket is empty for an address that is none."""
        names = HTTPZ.function("coprocessors"), RC9.function("getCoprocessor")
        return self._either(names, (tx_sender,), _coprocessor)

    def coprocessor_senders(self) -> ContractQuery[tuple[Address, ...]]:
        """Ask for the coprocessors' tx senders."""
        names = HTTPZ.function("getAllCoprocessorTxSenderAddresses"), RC9.function("getCoprocessorTxSenders")
        return self._either(names, (), lambda data: names[0].decode_result(data)[0])

    coprocessor_threshold = viewed(HTTPZ.function("getCoprocessorMajorityThreshold"))
    """Ask how many coprocessors are a majority."""

    def node_signer(self, tx_sender: Address) -> ContractQuery[Address]:
        """Ask who signs for the node that sends as ``tx_sender``; zero when it is no node."""
        names = HTTPZ.function("kmsNodes"), RC9.function("getKmsNode")
        return self._either(names, (tx_sender,), _node_signer)

    def _either(
        self, names: tuple[Function, Function], values: tuple[Any, ...], read: Callable[[bytes], T]
    ) -> ContractQuery[T]:
        """Ask by the first name, and by the second where there is none of the first."""
        first, second = (function.encode(*values) for function in names)
        other = view_call(*self.at, second, read)

        def understand(data: bytes) -> T:
            if not data:
                raise Instead(other)
            return read(data)

        def refused(message: str, data: bytes | None) -> T | None:
            if "revert" in message and not data:
                raise Instead(other)
            return None

        return attrs.evolve(view_call(*self.at, first, understand), refused=refused)


def _coprocessor(data: bytes) -> Coprocessor:
    if data[:_WORD] != _TUPLE:
        sender, _, _, bucket = RC4["HTTPZ"].function("coprocessors").decode_result(data)
        return Coprocessor(sender, ZERO_ADDRESS, bucket)
    if data[_FIRST_TEXT] == _TEXT_AFTER_FOUR:
        ((sender, signer, _, bucket),) = RC7["HTTPZ"].function("coprocessors").decode_result(data)
        return Coprocessor(sender, signer, bucket)
    return Coprocessor(*HTTPZ.function("coprocessors").decode_result(data)[0])


def _node_signer(data: bytes) -> Address:
    revision = RC7["HTTPZ"] if data[_FIRST_TEXT] == _TEXT_AFTER_FOUR else HTTPZ
    return Address(revision.function("kmsNodes").decode_result(data)[0][1])


AUTO = (PlaintextForm.P3, PlaintextForm.P1, PlaintextForm.P2, PlaintextForm.RAW)
"""All forms of a public result, in the order in which they are tried."""


@attrs.frozen
class HttpzDeployment:
    """DecryptionManager and HTTPZ, as their domains and as what they are asked, and KeyManager, on one gateway.

    ``forms`` of public results are tried in their order. ``parameters`` says which FHE parameters a digest means, none: always the
    default. ``preprocessing``: the Core knows preparations. ``keys_at_finality``: key management counts in finalized blocks only.
    """

    manager: Domain
    httpz: Domain
    decryptions: RequestViews
    registry: HttpzViews
    keys: RequestViews
    forms: Sequence[PlaintextForm] = AUTO
    parameters: Mapping[bytes, int] = attrs.field(factory=dict)
    preprocessing: bool = True
    keys_at_finality: bool = False

    @classmethod
    def of(cls, settings: Settings) -> HttpzDeployment:
        """Return the deployment that the settings name."""
        gateway, options = settings.chains.gateway.chain_id, settings.protocol.httpz
        auto = options.plaintext_encoding == "auto"
        named = settings.protocol
        manager, httpz, keys = (
            named.decryption_contract,
            named.gateway_config_contract,
            named.kms_generation_contract,
        )
        return cls(
            manager=manager.domain(gateway),
            httpz=httpz.domain(gateway),
            decryptions=RequestViews(gateway, manager.address, DECRYPTION_MANAGER_BASE),
            registry=HttpzViews(gateway, httpz.address),
            keys=RequestViews(gateway, keys.address, KEY_MANAGER_BASE),
            forms=AUTO if auto else (PlaintextForm(options.plaintext_encoding),),
            parameters=options.fhe_parameters,
            preprocessing=options.preprocessing,
            keys_at_finality=options.key_management_at_finality,
        )


NO_TAG = 0
THE_CONTEXT = 0
"""There is one set of nodes; the contracts give it no number."""

SENDER_VERDICTS: Mapping[str, Verdict] = {
    "NotKmsTxSender": Verdict.FINAL,
    "AccessControlUnauthorizedAccount": Verdict.FINAL,  # the same in rc7: the role is that of a KMS tx sender
}
"""What every function says to a sender that is no node."""

_STORING, _KNOWN_ID, _FULL = "into meta store:", "The element with ID", "Error in"
C = TypeVar("C", bound=Content)
Signed = tuple[bytes, bytes]
"""Bytes that may be the result, and the digest that a node signs for them."""


def aborted(text: str) -> Meaning | None:
    """Say what ABORTED means on a start call: that Core has it for known ids, a full table and bad requests alike (8.4).

    Its texts are cut short, so that only their beginnings count.
    """
    _, stored, reason = text.partition(_STORING)
    if not stored:
        return Meaning.REFUSED
    if reason.lstrip().startswith(_KNOWN_ID):
        return Meaning.SUCCESS
    return None if reason.lstrip().startswith(_FULL) else Meaning.REFUSED


MEANS: Mapping[str, Reading] = {"ABORTED": aborted}
"""What statuses of start calls mean in that era, where they mean something else than later."""


class HttpzOperation(Operation[C]):
    """A row of this generation. ``reply``: the function that takes a reply.

    ``counter`` and ``answers`` are slots of its contract: the newest request, None where it is named by its preparation, and who has told
    of which id.
    """

    reply: Function
    means = MEANS
    counter: int | None = None
    answers: int

    def __init__(self, deployment: HttpzDeployment) -> None:
        self.deployment = deployment

    @property
    @abstractmethod
    def views(self) -> RequestViews:
        """The questions to its contract."""

    @property
    def contract(self) -> tuple[int, Address]:
        """Where its contract is."""
        return self.views.at

    def numbering(self) -> Numbering | None:
        """Return the counter of these requests."""
        return None if self.counter is None else Numbering(self.kind, NO_TAG, self.views.newest(self.counter))

    identified = staticmethod(request_id)

    def replying_context(self, content: C) -> int:
        """Return the one set of nodes."""
        return THE_CONTEXT

    def node_signer(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        """Ask HTTPZ for the signer of a tx sender."""
        return self.deployment.registry.node_signer(tx_sender)

    def revert(self, data: bytes | None) -> Revert:
        """Name a revert and say what it means."""
        return name_revert(ALL_ERRORS, self.verdicts, data)


def first_signed(candidates: Iterable[Signed], signature: bytes, expected: Address) -> tuple[bytes, Address]:
    """Return the first candidate that ``expected`` signed, else the first with whoever signed that; for the caller to refuse.

    That era had several ways to write a result and a share, and no version tells which a Core has. The signature does.
    """
    first: tuple[bytes, Address] | None = None
    for result, digest in candidates:
        signer = signer_of(digest, signature)
        if signer == expected:
            return result, signer
        first = first or (result, signer)
    if first is None:
        raise Broken(DEPENDENCY, "the answer has values that no encoding of that generation can hold")
    return first
