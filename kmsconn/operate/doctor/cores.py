"""Probes of the Core's endpoints: health, what each has, who it signs as; and of the reply to one recent request, called and not sent.

Reads only, unless it is told to hand a request over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
import trio

from kmsconn.chain.asking import ask
from kmsconn.chain.port import RpcError
from kmsconn.core.client import CoreClient
from kmsconn.errors import Broken, NotYet, RequestError, Undecodable, Unreachable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import id_name
from kmsconn.model.life import Answer, Ciphertext
from kmsconn.model.requests import Content, Kind
from kmsconn.operate.doctor.buckets import BucketAccess
from kmsconn.operate.doctor.chains import CheckedChain, read_wei
from kmsconn.operate.doctor.contracts import RecentRequests
from kmsconn.operate.doctor.probing import Diagnosis, Discovery, Probe, fault, ok, skipped, warning
from kmsconn.protocols.fhevm.profile import (
    MATERIAL_METHOD,
    STATUS_METHOD,
    CoreStatus,
    read_material,
    read_status,
)
from kmsconn.protocols.port import Facts, Revert, Verdict
from kmsconn.protocols.profile import Coprocessor, KeysAndCrs, MaterialInUse, Profile
from kmsconn.transport.urls import show_origin

RESULT_WAIT = 3.0  # seconds for the result of a request that the Core may still work on
NEW_RESULT_WAIT = 60.0  # seconds likewise of one that was just handed over
START_CORE = "start the Core, and check this endpoint in kms_core_endpoints and the way to it"

_KNOWS_NOT = "the Core does not know its context, epoch or key: give it the storage of the registered node"


@attrs.frozen
class FoundAnswer:
    """A request and the Core's answer to it."""

    content: Content
    answer: Answer


@attrs.frozen
class CheckedCore:
    """One endpoint of the Core by its place in the configuration; ``serves`` is its health check, of ``limit`` seconds."""

    client: CoreClient
    index: int
    url: str
    limit: float
    serves: Probe[bool] = attrs.field(init=False)

    @property
    def name(self) -> str:
        """How lines name it."""
        return f"{self.client.endpoints[self.index]} {show_origin(self.url)}"

    @serves.default
    def _serves(self) -> Probe[bool]:
        checked = f"{self.name}: health"

        async def look() -> Discovery[bool]:
            wrong = f"accepts calls and does not answer for {self.limit:g} s"
            try:
                with trio.move_on_after(self.limit):
                    wrong = await self.client.health(self.index)
            except Unreachable as error:
                wrong = str(error)
            if wrong:
                remedy = self.client.remedy(self.index, wrong) or START_CORE
                return Discovery(None, [fault(checked, wrong, remedy)])
            return Discovery(True, [ok(checked, "serves")])

        return Probe(checked, look, limit=self.limit + 5.0, remedy=START_CORE)


def material_probe(
    core: CheckedCore, material: Probe[MaterialInUse], recent: Probe[RecentRequests]
) -> Probe[None]:
    """Return the probe of an endpoint's keys, CRS and contexts, compared with those in use on the chain."""
    checked = f"{core.name}: key material"

    async def look() -> Sequence[Diagnosis]:
        reply = await core.client.inspect(core.index, MATERIAL_METHOD)
        if reply is None:
            return [skipped(checked, f"this Core has no call {MATERIAL_METHOD}: it is older than 0.14")]
        used = material.value
        lines = [judge_material(checked, read_material(reply), used, keys_in_use(used, recent))]
        status = await core.client.inspect(core.index, STATUS_METHOD)
        if status is not None:
            lines.append(judge_status(f"{core.name}: context", read_status(status), used))
        return lines

    return Probe(checked, look, (core.serves, material), (recent,), limit=45.0, remedy=START_CORE)


def keys_in_use(material: MaterialInUse, recent: Probe[RecentRequests]) -> frozenset[int]:
    """Return the keys that the contract and the newest request name."""
    keys = {material.key_id} if material.key_id else set()
    if not recent.missing:
        newest = recent.value[0]
        keys |= {reference.key_id for reference in newest.references if reference.key_id}
    return frozenset(keys)


def judge_material(checked: str, core: KeysAndCrs, used: MaterialInUse, keys: frozenset[int]) -> Diagnosis:
    """Compare what a Core has with what is used."""
    wanted = KeysAndCrs(keys, frozenset({used.crs_id} - {0}))
    if missing := [id_name(one) for one in core.lacking(wanted)]:
        has = f"{len(core.keys)} keys and {len(core.crs)} CRS"
        found = f"the Core does not have {', '.join(missing)}, which is in use; it has {has}"
        remedy = "give this Core the storage of the registered node, or name that node's Core in kms_core_endpoints"
        return fault(checked, found, remedy)
    if not keys:
        return ok(checked, f"{len(core.keys)} keys, {len(core.crs)} CRS; the chain names none yet")
    return ok(checked, f"has {', '.join(id_name(one) for one in sorted(keys))}")


def describe_material(checked: str, used: MaterialInUse) -> Diagnosis:
    """Say what is in use on the chain."""
    named = [id_name(one) for one in (used.context_id, used.epoch_id, used.key_id, used.crs_id) if one]
    return ok(checked, ", ".join(named) or "there is none yet")


def judge_status(checked: str, core: CoreStatus, used: MaterialInUse) -> Diagnosis:
    """Judge whether a Core knows the current context, and reaches enough peers in it."""
    if not core.threshold:
        return ok(checked, "a centralised Core, which names no contexts")
    known = {one.context_id: one for one in core.contexts}
    name = id_name(used.context_id)
    if used.context_id not in known:
        found = f"the Core does not know the current {name}, only {len(known)} others"
        option = "kms_operation_from_block_number"
        return fault(
            checked, found, f"let the Core make it: start kmsconn with {option} before its announcement"
        )
    peers = known[used.context_id]
    found = f"{name}: {peers.reachable} nodes reached, {peers.needed} needed"
    if peers.reachable < peers.needed:
        return fault(checked, found, "let the Core reach its peers: check their addresses and the network")
    if peers.silent:
        return warning(checked, f"{found}; silent: {', '.join(peers.silent)}", "check the silent peers")
    return ok(checked, found)


# --- its signer


@attrs.frozen
class SignerProbe:
    """The probe of who an endpoint signs as, by its results of the newest requests: reading them changes nothing.

    ``hand_over``, where it is given, hands a request over when there is no result to read, or says why it does not.
    """

    core: CheckedCore
    profile: Profile
    recent: Probe[RecentRequests]
    signer: Probe[Address]
    hand_over: Callable[[Content], Awaitable[str]] | None = None

    @property
    def checked(self) -> str:
        """What is checked."""
        return f"{self.core.name}: signer"

    def probe(self) -> Probe[FoundAnswer]:
        """Return it as a probe, which finds an answer with the registered signer."""
        needs = (self.core.serves, self.recent, self.signer)
        return Probe(self.checked, self._look, needs, limit=150.0, remedy=START_CORE)

    async def _look(self) -> Sequence[Diagnosis] | Discovery[FoundAnswer]:
        contents = [one for one in self.recent.value if self._is_asked(one)]
        reason = f"the Core has no result for the newest {len(contents)} requests"
        try:
            found = None
            for content in contents:
                found = found or await self._result(content, RESULT_WAIT)
            if found is None and self.hand_over is not None:
                found, reason = await self._result_of_new(contents, self.hand_over)
        except (Broken, Undecodable) as error:
            return [fault(self.checked, str(error), "check which program answers at this endpoint")]
        except NotYet as error:
            return [fault(self.checked, f"the Core refuses a request: {error}", _KNOWS_NOT)]
        if found is None:
            return [skipped(self.checked, reason, "run the connector, or kmsconn doctor --ask-core")]
        line = judge_signer(self.checked, self.signer.value, found.answer.signer)
        return Discovery(found if found.answer.signer == self.signer.value else None, [line])

    def _is_asked(self, content: Content) -> bool:
        call = self.profile.operations[content.kind].result_call(content)
        return call is not None and self.core.client.index_of(call) == self.core.index

    async def _result_of_new(
        self, contents: Sequence[Content], hand_over: Callable[[Content], Awaitable[str]]
    ) -> tuple[FoundAnswer | None, str]:
        """Hand the newest request over that may be, and return the answer, or why there is none. Raises RequestError."""
        reason = "no recent request is for this endpoint"
        for content in contents:
            reason = await hand_over(content)
            if not reason:
                found = await self._result(content, NEW_RESULT_WAIT)
                return found, f"the Core has no result after {NEW_RESULT_WAIT:g} s"
        return None, f"no request was handed over: {reason}"

    async def _result(self, content: Content, wait: float) -> FoundAnswer | None:
        """Return the endpoint's answer to a request; None where it has none yet. Raises Broken, Undecodable."""
        operation = self.profile.operations[content.kind]
        call = operation.result_call(content)
        assert call is not None, "only requests that have one are asked for"
        with trio.move_on_after(wait):
            try:
                reply = await self.core.client.result(call)
            except RequestError:  # not known, not ready, or failed: another request tells as well
                return None
            answer = operation.read_answer(content, reply, self.signer.value)
            return None if answer is None else FoundAnswer(content, answer)
        return None


def judge_signer(checked: str, expected: Address, found: Address | None) -> Diagnosis:
    """Compare who signed an answer with who is registered."""
    if found == expected:
        return ok(checked, f"{checksum(expected)}, as registered")
    signed_by = "nobody" if found is None else checksum(found)
    wrong = f"an answer is signed by {signed_by}, registered for the tx sender is {checksum(expected)}"
    remedy = "name the Core of this node in kms_core_endpoints, or configure the tx sender that is registered with that signer"
    return fault(checked, wrong, remedy)


@attrs.frozen
class HandOver:
    """How a request is handed over: one that everybody may see, once the host chains say so, with its ciphertexts."""

    profile: Profile
    chains: Mapping[int, CheckedChain]
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
            chain = self.chains[question.chain_id]
            await chain.usable.wait()
            if chain.usable.missing:
                raise Unreachable(chain.usable.missing)
            await ask(chain.rpc, question)

    async def _gather(self, content: Content) -> list[Ciphertext]:
        buckets = {one.tx_sender: one.bucket for one in self.coprocessors.value if one.bucket}
        return [await self.access.fetch(buckets, one) for one in content.references]


REPLY_CHECKED = "a reply, called and not sent"


def reply_probe(
    profile: Profile, chain: CheckedChain, tx_sender: Probe[Address], answers: tuple[Probe[FoundAnswer], ...]
) -> Probe[int]:
    """Return the probe that makes an ``eth_call`` of a reply, and finds its gas where the contract takes it."""

    async def look() -> Sequence[Diagnosis] | Discovery[int]:
        found = next((one.value for one in answers if not one.missing), None)
        if found is None:
            return [skipped(REPLY_CHECKED, f"there is no answer of the Core: {answers[0].missing}")]
        operation = profile.operations[found.content.kind]
        sender, contract, calldata = tx_sender.value, operation.contract[1], found.answer.calldata
        message = {"from": to_hex(sender), "to": to_hex(contract), "data": to_hex(calldata)}
        name = id_name(found.content.id)
        try:
            await chain.rpc.call("eth_call", message, "latest")
        except RpcError as error:
            return [judge_refusal(name, error, operation.revert(error.data))]
        estimate = await read_wei(chain.rpc, "eth_estimateGas", message)
        line = ok(REPLY_CHECKED, f"the contract takes the reply to {name}, {estimate} gas")
        return Discovery(operation.spare(estimate) + estimate, [line])

    return Probe(REPLY_CHECKED, look, (tx_sender, chain.usable), answers, limit=300.0)


def judge_refusal(name: str, error: RpcError, revert: Revert) -> Diagnosis:
    """Judge why a contract does not take a reply."""
    if not error.is_revert:
        return warning(REPLY_CHECKED, f"the node does not call it: {error}", "check the node")
    if revert.verdict is Verdict.DONE:
        return ok(REPLY_CHECKED, f"the contract has this node's reply to {name} ({revert.name})")
    if revert.verdict is Verdict.SKIP:
        return ok(REPLY_CHECKED, f"the contract needs no reply to {name} any more ({revert.name})")
    remedy = "compare tx sender, signer and EIP-712 domain with what is registered (lines above)"
    return fault(REPLY_CHECKED, f"the contract reverts on the reply to {name}: {revert}", remedy)
