"""Key checks: each node shows that it still holds a key. Invented, to follow ``docs/adding-an-operation.md``: no contract asks for it.

``test_adding_an_operation`` copies this module into a copy of the package, as ``protocols/fhevm/key_checks.py``. A real operation
takes its event, its function and its errors from ``abi``, and its message has a name of its own in ``protos/``.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.ethereum.abi import ContractEvent, Function, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.model.life import Answer
from kmsconn.model.requests import Kind
from kmsconn.protocols.core_messages import expect_id, read_message, signature_of, signer_of
from kmsconn.protocols.fhevm.key_management import GenerationOperation, generation_verdicts
from kmsconn.protocols.fhevm.operations import UnderContext, request_id, under_context
from kmsconn.protocols.port import RequestEvent, id_in_data

_INPUTS = [{"type": "uint256"}, {"type": "uint256"}, {"type": "bytes"}]
EVENT = ContractEvent.from_item(
    {"name": "KeyCheckRequest", "inputs": [{**one, "indexed": False} for one in _INPUTS]}
)
RESPONSE = Function.from_item(
    {"name": "keyCheckResponse", "inputs": [{"type": "uint256"}, {"type": "bytes"}], "outputs": []}
)
SIGNED_TYPE = "KeyCheckVerification(uint256 checkId,uint256 keyId,bytes extraData)"


@attrs.frozen
class KeyCheck(UnderContext):
    """A request to show that a key is still held."""

    id: int
    key_id: int
    extra_data: bytes

    kind = Kind("key_check")


class KeyChecks(GenerationOperation[KeyCheck]):
    """The row of key checks: pool, finality, context, node and spare gas are those of every generation."""

    kind = KeyCheck.kind
    events = (RequestEvent(EVENT, KeyCheck, id_in_data),)
    start, result = "CheckKey", "GetKeyCheckResult"
    reply = RESPONSE
    verdicts = generation_verdicts("Keygen")

    def request(self, content: KeyCheck, gathered: Any) -> kms.KeyGenRequest:
        """Return the start of a check."""
        common = under_context(content, self.deployment.generation)
        return kms.KeyGenRequest(**common, preproc_id=request_id(content.key_id))

    def read_answer(self, content: KeyCheck, reply: bytes | None, expected: Address | None) -> Answer:
        """Read the signature over the check. Raises Broken."""
        message = read_message(kms.KeyGenPreprocResult, reply or b"")
        expect_id(message.preprocessing_id, content.id)
        struct = hash_struct(SIGNED_TYPE, content.id, content.key_id, content.extra_data)
        signature = signature_of(message)
        signer = signer_of(signing_digest(self.deployment.generation, struct), signature)
        return Answer(RESPONSE.encode(content.id, signature), signer)
