"""What is done with one recent request: handed over to the Core, where the operator wants that; its reply called, and not sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from kmsconn.chain.asking import ask
from kmsconn.chain.port import RpcError
from kmsconn.core.client import CoreClient
from kmsconn.errors import RequestError, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import id_name
from kmsconn.model.requests import Content, Kind
from kmsconn.model.steps import Ciphertext
from kmsconn.operate.doctor import nodes
from kmsconn.operate.doctor.buckets import BucketAccess, KnownBuckets
from kmsconn.operate.doctor.chains import CheckedChain
from kmsconn.operate.doctor.cores import FoundAnswer
from kmsconn.operate.doctor.diagnosis import Diagnosis, fault, ok, skipped, warning
from kmsconn.operate.doctor.probing import Discovery, Probe
from kmsconn.protocols.port import Facts, Revert, Verdict
from kmsconn.protocols.profile import Coprocessor, Profile


@attrs.frozen
class HandOver:
    """How a request is handed over: one that everybody may see, once the host chains say so, with its ciphertexts."""

    profile: Profile
    chain: Callable[[int], CheckedChain]
    client: CoreClient
    access: BucketAccess
    coprocessors: Probe[tuple[Coprocessor, ...]]
    tx_sender: Probe[Address]

    async def of(self, content: Content) -> str:
        """Hand a request over, and return nothing, or why that was not done.

        Raises RequestError for what the Core says. Repeating: ALREADY_EXISTS is success.
        """
        if content.kind is not Kind.PUBLIC_DECRYPTION:
            return "it is not public"
        await self.coprocessors.wait()
        if self.coprocessors.missing:
            return self.coprocessors.missing
        try:
            await self._check(content)
            gathered = await self._gather(content)
            calls = self.profile.operations[content.kind].start_calls(content, gathered)
        except RequestError as error:
            return str(error)
        for call in calls:
            await self.client.start(call)
        return ""

    async def _check(self, content: Content) -> None:
        """Ask the host chains whether everybody may see it. Raises Rejected, Retryable."""
        facts = Facts(chain_time=0.0, age=0.0, tx_sender=self.tx_sender.value)
        for question in self.profile.operations[content.kind].checks(content, facts):
            chain = self.chain(question.chain_id)
            await chain.usable.wait()
            if chain.usable.missing:
                raise Unreachable(chain.usable.missing)
            await ask(chain.rpc, question)

    async def _gather(self, content: Content) -> list[Ciphertext]:
        buckets = {one.tx_sender: one.bucket for one in self.coprocessors.value if one.bucket}
        return [await self.access.fetch(KnownBuckets(buckets), one) for one in content.references]


CHECKED = "a reply, called and not sent"


def reply_probe(
    profile: Profile,
    chain: CheckedChain,
    tx_sender: Probe[Address],
    answers: tuple[Probe[FoundAnswer], ...],
) -> Probe[int]:
    """Return the probe that makes an ``eth_call`` of a reply, and finds its gas where the contract takes it."""

    async def look() -> Sequence[Diagnosis] | Discovery[int]:
        found = next((one.value for one in answers if not one.missing), None)
        if found is None:
            return [skipped(CHECKED, f"there is no answer of the Core: {answers[0].missing}")]
        operation = profile.operations[found.content.kind]
        message = {
            "from": to_hex(tx_sender.value),
            "to": to_hex(operation.contract[1]),
            "data": to_hex(found.answer.calldata),
        }
        name = id_name(found.content.id)
        try:
            await chain.rpc.call("eth_call", message, "latest")
        except RpcError as error:
            return [judge_refusal(name, error, operation.revert(error.data))]
        estimate = await nodes.read_wei(chain.rpc, "eth_estimateGas", message)
        line = ok(CHECKED, f"the contract takes the reply to {name}, {estimate} gas")
        return Discovery(operation.spare(estimate) + estimate, [line])

    return Probe(CHECKED, look, (tx_sender, chain.usable), answers, limit=300.0)


def judge_refusal(name: str, error: RpcError, revert: Revert) -> Diagnosis:
    """Judge why a contract does not take a reply."""
    if error.data is None and "revert" not in error.message.lower():
        return warning(CHECKED, f"the node does not call it: {error}", "check the node")
    if revert.verdict is Verdict.DONE:
        return ok(CHECKED, f"the contract has this node's reply to {name} ({revert.name})")
    if revert.verdict is Verdict.SKIP:
        return ok(CHECKED, f"the contract needs no reply to {name} any more ({revert.name})")
    return fault(
        CHECKED,
        f"the contract reverts on the reply to {name}: {revert}",
        "compare tx sender, signer and EIP-712 domain with what is registered (lines above)",
    )
