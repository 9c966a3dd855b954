"""The Core of the first generation: all its calls by a gRPC client that is not ours, their statuses, and what a restart costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn._generated.httpz_rc7.kms.v1 import (
    CrsGenRequest,
    CrsGenResult,
    DecryptionRequest,
    DecryptionResponse,
    Eip712DomainMsg,
    FheType,
    InitRequest,
    KeyGenPreprocRequest,
    KeyGenPreprocResult,
    KeyGenRequest,
    KeyGenResult,
    ReencryptionRequest,
    ReencryptionResponse,
    RequestId,
    TypedCiphertext,
)
from kmsconn.core.client import SERVICE
from kmsconn.emulator.core_jobs import CoreJobs
from kmsconn.emulator.dependencies import address_for, key_for, secret_for
from kmsconn.emulator.httpz import signcryption as box
from kmsconn.emulator.httpz.core import STARTS, FirstCore, domain_of
from kmsconn.emulator.httpz.signcryption import pack_key
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import recover
from kmsconn.protocols.httpz_rc7.messages import PlaintextForm, encode_plaintexts, public_digest
from kmsconn.transport.grpc.framing import Status
from tests.unit.emulator.h2_caller import Outcome, calling

HANDLE, BODY, SECRET = b"\x11" * 32, b"a ciphertext", secret_for("box")
USER = key_for("user").address
DOMAIN = Eip712DomainMsg(
    name="DecryptionManager",
    version="1",
    chain_id=(54321).to_bytes(32),
    verifying_contract=checksum(address_for("DecryptionManager")),
)
ONE = RequestId(request_id=f"{1:064x}")
CIPHERTEXT = TypedCiphertext(ciphertext=BODY, fhe_type=FheType.Euint64, external_handle=HANDLE)
REQUESTS: Mapping[str, Any] = {
    "Decrypt": DecryptionRequest(request_id=ONE, ciphertexts=[CIPHERTEXT], key_id=ONE, domain=DOMAIN),
    "Reencrypt": ReencryptionRequest(
        request_id=ONE,
        typed_ciphertexts=[CIPHERTEXT],
        key_id=ONE,
        client_address=checksum(USER),
        enc_key=pack_key(box.public_key(SECRET)),
        domain=DOMAIN,
    ),
    "KeyGenPreproc": KeyGenPreprocRequest(request_id=ONE),
    "KeyGen": KeyGenRequest(request_id=ONE, preproc_id=ONE, domain=DOMAIN),
    "CrsGen": CrsGenRequest(request_id=ONE, domain=DOMAIN),
    "InsecureKeyGen": KeyGenRequest(request_id=ONE, domain=DOMAIN),
    "InsecureCrsGen": CrsGenRequest(request_id=ONE, domain=DOMAIN),
}
ANSWERS: Mapping[str, Any] = {
    "Decrypt": DecryptionResponse,
    "Reencrypt": ReencryptionResponse,
    "KeyGenPreproc": KeyGenPreprocResult,
    "KeyGen": KeyGenResult,
    "CrsGen": CrsGenResult,
    "InsecureKeyGen": KeyGenResult,
    "InsecureCrsGen": CrsGenResult,
}


def core(**knobs: Any) -> FirstCore:
    return FirstCore(key_for("node signer"), {BODY: 1000}, **knobs)


class Client:
    """Asks one Core over one connection."""

    def __init__(self, caller: Any) -> None:
        self._caller = caller

    async def call(self, method: str, message: Any) -> Outcome:
        outcome: Outcome = await self._caller.call(f"/{SERVICE}/{method}", bytes(message))
        return outcome

    async def start(self, method: str) -> Outcome:
        return await self.call(method, REQUESTS[method])

    async def result(self, method: str, identifier: RequestId = ONE) -> Outcome:
        return await self.call(STARTS[method][1], identifier)


async def test_all_fifteen_calls_are_answered() -> None:
    called = {"Init"}
    async with calling(core().methods()) as caller:
        client = Client(caller)
        assert (await client.call("Init", InitRequest())).status == 0
        for method in REQUESTS:
            called |= {method, STARTS[method][1]}
            assert (await client.start(method)).status == 0
            outcome = await client.result(method)
            assert outcome.status == 0
            ANSWERS[method].parse(outcome.reply)
    assert len(called) == 15


async def test_a_core_without_the_insecure_calls_has_eleven() -> None:
    assert len(core(insecure=False).methods()) == 11
    async with calling(core(insecure=False).methods()) as caller:
        outcome = await Client(caller).start("InsecureKeyGen")
        assert outcome.status == Status.UNIMPLEMENTED.value


@pytest.mark.parametrize("form", [PlaintextForm.P1, PlaintextForm.P2, PlaintextForm.P3])
@pytest.mark.parametrize("numeric", [False, True])
async def test_a_public_answer_is_signed_over_its_form(form: PlaintextForm, numeric: bool) -> None:
    async with calling(core(form=form, numeric=numeric).methods()) as caller:
        await Client(caller).start("Decrypt")
        answer = DecryptionResponse.parse((await Client(caller).result("Decrypt")).reply)
    assert answer.payload is not None
    assert answer.payload.external_signature is not None
    (plaintext,) = answer.payload.plaintexts
    result = encode_plaintexts(form, [(5, plaintext.bytes)])
    digest = public_digest(domain_of(DOMAIN), [HANDLE], result, numeric=numeric)
    assert recover(digest, answer.payload.external_signature) == key_for("node signer").address


async def test_a_known_id_is_aborted_with_the_text_of_the_real_one() -> None:
    async with calling(core().methods()) as caller:
        await Client(caller).start("Decrypt")
        again = await Client(caller).start("Decrypt")
    assert again.status == Status.ABORTED.value
    assert "into meta store: The element with ID" in again.message


async def test_a_long_job_is_unavailable_after_a_minute() -> None:
    began = trio.current_time()
    async with calling(core(computing=70.0).methods()) as caller:
        await Client(caller).start("Decrypt")
        assert (await Client(caller).result("Decrypt")).status == Status.UNAVAILABLE.value
        assert trio.current_time() - began == pytest.approx(60, abs=1)
        assert (await Client(caller).result("Decrypt")).status == 0


async def test_a_restart_forgets_everything() -> None:
    restarted = core()
    async with calling(restarted.methods()) as caller:
        await Client(caller).start("Decrypt")
        restarted.restart()
        assert (await Client(caller).result("Decrypt")).status == Status.NOT_FOUND.value


async def test_a_full_table_forgets_what_is_finished_and_refuses_when_nothing_is() -> None:
    small = core(memory=CoreJobs(capacity=1, kept=0), computing=5.0)
    other = KeyGenPreprocRequest(request_id=RequestId(request_id=f"{2:064x}"))
    async with calling(small.methods()) as caller:
        await Client(caller).start("KeyGenPreproc")
        full = await Client(caller).call("KeyGenPreproc", other)
        assert (full.status, "Error in" in full.message) == (Status.ABORTED.value, True)
        await trio.sleep(6)
        assert (await Client(caller).call("KeyGenPreproc", other)).status == 0
        assert (await Client(caller).result("KeyGenPreproc")).status == Status.NOT_FOUND.value


async def test_a_preprocessing_is_used_up() -> None:
    async with calling(core().methods()) as caller:
        client = Client(caller)
        assert (await client.start("KeyGenPreproc")).status == 0
        assert (await client.start("KeyGenPreproc")).status == 0  # a repeated one does nothing
        assert (await client.start("KeyGen")).status == 0
        other = KeyGenRequest(request_id=RequestId(request_id=f"{2:064x}"), preproc_id=ONE)
        assert (await client.call("KeyGen", other)).status == Status.NOT_FOUND.value


async def test_a_ciphertext_that_is_none_fails_the_job() -> None:
    bad = core()
    bad.plaintexts = {}
    async with calling(bad.methods()) as caller:
        await Client(caller).start("Decrypt")
        assert (await Client(caller).result("Decrypt")).status == Status.INTERNAL.value


async def test_start_and_answer_of_a_decryption_are_told_by_name() -> None:
    told: list[tuple[str, bytes]] = []
    telling = core()
    telling.on_start = lambda name: told.append(("start", name))
    telling.on_answer = lambda name: told.append(("answer", name))
    async with calling(telling.methods()) as caller:
        for method in ("Decrypt", "Reencrypt", "CrsGen"):
            await Client(caller).start(method)
            await Client(caller).result(method)
    public, user = from_hex("0x01" + "00" * 30 + "01"), from_hex("0x02" + "00" * 30 + "01")
    assert told == [("start", public), ("answer", public), ("start", user), ("answer", user)]
