"""Which requests the Gateway takes (fhevm-0.14.md, 1.6), and each refusal of a reply in annex A: the same of emulator and anvil."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kmsconn.emulator.ciphertexts import make_handle
from kmsconn.emulator.contracts import request_calls
from kmsconn.emulator.contracts.request_calls import (
    DIRECT_CALL,
    UNIFIED_CALL,
    legacy_request,
    public_request,
    sign_unified,
    unified_request,
)
from kmsconn.emulator.dependencies import HOST_ID, key_for
from kmsconn.emulator.fhevm_dependencies import APP, CONTEXT
from kmsconn.ethereum.abi import hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import recover
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import ALL_ERRORS, DECRYPTION
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import Verdict
from tests import vectors
from tests.real.gateways import (
    COMMITTEE,
    FORMS,
    HANDLES,
    OTHER_CONTEXT,
    UNKNOWN_CONTEXT,
    USER_KEY,
    Form,
    Scene,
)

pytestmark = pytest.mark.rotating

ERRORS = {error.name: error for error in ALL_ERRORS.values()}
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
US, THEM = key_for("signer of us").address, key_for("signer of them").address
OUR_SENDER = key_for("sender of us").address
SHORT = b"\x01" + bytes(31)
VERDICTS = {
    "KmsNodeAlreadySigned": Verdict.DONE,
    **dict.fromkeys(("DecryptionNotRequested", "InvalidKmsContext"), Verdict.RETRY),
}
"""What is done about an error; about all others nothing, for good."""
Made = Any
"""Something, or how it is made in a scene for a form."""


class Case:
    """A wrong reply: what must be said to it with which values, what is done first, and what is wrong with it (``changes``)."""

    def __init__(
        self,
        error: str,
        *values: Made,
        first: Callable[[Scene, Form], Awaitable[object]] | None = None,
        sender: str = "sender of us",
        **changes: Made,
    ) -> None:
        self.error, self.values, self.first, self.sender, self.changes = error, values, first, sender, changes


def made(what: Made, scene: Scene, form: Form) -> Any:
    return what(scene, form) if callable(what) else what


def named(context_id: int) -> bytes:
    return b"\x01" + context_id.to_bytes(32)


def high_s(signature: bytes) -> bytes:
    """Return the other signature that recovers the same signer."""
    s = ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])


def ours(scene: Scene, form: Form, extra_data: bytes = b"") -> bytes:
    return key_for("signer of us").sign(scene.digest(form, extra_data))


async def answer(scene: Scene, form: Form) -> None:
    await scene.send(scene.reply(form))


async def destroy(scene: Scene, form: Form) -> None:
    """Make another context current, then destroy the pinned one."""
    del form
    await scene.gateway.set_context(OTHER_CONTEXT, COMMITTEE)
    await scene.gateway.destroy_context(CONTEXT)


async def unpin(scene: Scene, form: Form) -> None:
    await scene.gateway.pin(scene.ids[form], 0)


async def switch(scene: Scene, form: Form) -> None:
    del form
    await scene.gateway.set_context(OTHER_CONTEXT, COMMITTEE)


def asked(scene: Scene, form: Form) -> int:
    return scene.ids[form]


def of_the_other_kind(scene: Scene, form: Form) -> int:
    return scene.ids[FORMS[1 - FORMS.index(form)]]


def later(scene: Scene, form: Form) -> int:
    return scene.ids[form] + 1


def before(scene: Scene, form: Form) -> int:
    return scene.ids[form] - 1


def of_other_bytes(scene: Scene, form: Form) -> bytes:
    return ours(scene, form, b"\x00")


def recovered_from_other_bytes(scene: Scene, form: Form) -> Address | None:
    return recover(scene.digest(form), of_other_bytes(scene, form))


def with_high_s(scene: Scene, form: Form) -> bytes:
    return high_s(ours(scene, form))


STRANGER = key_for("stranger").address
CASES = {
    "answered already": Case("KmsNodeAlreadySigned", asked, US, first=answer),
    "an id above the counter": Case("DecryptionNotRequested", later, identifier=later),
    "the bare tag as an id": Case("DecryptionNotRequested", before, identifier=before),
    "an id of the other kind": Case(
        "DecryptionNotRequested", of_the_other_kind, identifier=of_the_other_kind
    ),
    "another context than the pinned one": Case(
        "DecryptionContextMismatch", asked, CONTEXT, OTHER_CONTEXT, extra_data=named(OTHER_CONTEXT)
    ),
    "an unknown context where another is pinned": Case(
        "DecryptionContextMismatch", asked, CONTEXT, UNKNOWN_CONTEXT, extra_data=named(UNKNOWN_CONTEXT)
    ),
    "version 0 across a change of context": Case(
        "DecryptionContextMismatch", asked, CONTEXT, OTHER_CONTEXT, first=switch
    ),
    "the pinned context is destroyed": Case(
        "InvalidKmsContext", CONTEXT, first=destroy, extra_data=named(CONTEXT)
    ),
    "an unknown context where none is pinned": Case(
        "InvalidKmsContext", UNKNOWN_CONTEXT, first=unpin, extra_data=named(UNKNOWN_CONTEXT)
    ),
    "a signer who is no node": Case("NotKmsSigner", STRANGER, signer="stranger"),
    "other bytes were signed": Case("NotKmsSigner", recovered_from_other_bytes, signature=of_other_bytes),
    "another node's answer": Case("KmsSignerDoesNotMatchTxSender", THEM, OUR_SENDER, signer="signer of them"),
    "our answer from a stranger": Case("KmsSignerDoesNotMatchTxSender", US, STRANGER, sender="stranger"),
    "extraData of an unknown version": Case(
        "UnsupportedExtraDataVersion", 3, extra_data=b"\x03" + CONTEXT.to_bytes(32)
    ),
    "extraData that is too short": Case("InvalidExtraDataLength", 32, 33, extra_data=SHORT),
    "extraData with context zero": Case("InvalidNullContextId", extra_data=named(0)),
    "a signature of no point": Case("ECDSAInvalidSignature", signature=bytes(64) + b"\x1b"),
    "a signature with parity 0 or 1": Case(
        "ECDSAInvalidSignature",
        signature=lambda scene, form: ours(scene, form)[:64] + bytes([ours(scene, form)[64] - 27]),
    ),
    "a signature with a parity above": Case(
        "ECDSAInvalidSignature",
        signature=lambda scene, form: ours(scene, form)[:64] + bytes([ours(scene, form)[64] + 8]),
    ),
    "a signature of 66 bytes": Case(
        "ECDSAInvalidSignatureLength", 66, signature=lambda scene, form: ours(scene, form) + b"\0"
    ),
    "a signature of 64 bytes": Case(
        "ECDSAInvalidSignatureLength", 64, signature=lambda scene, form: ours(scene, form)[:64]
    ),
    "no signature": Case("ECDSAInvalidSignatureLength", 0, signature=b""),
    "a signature with high s": Case(
        "ECDSAInvalidSignatureS", lambda scene, form: with_high_s(scene, form)[32:64], signature=with_high_s
    ),
    # From here on more than one thing is wrong: the order of the checks decides.
    "the id comes before the extraData": Case(
        "DecryptionNotRequested", later, identifier=later, extra_data=b"\x03"
    ),
    "the extraData comes before the pinned context": Case(
        "InvalidExtraDataLength", 32, 33, first=switch, extra_data=SHORT, signature=b""
    ),
    "the pinned context comes before its validity": Case(
        "DecryptionContextMismatch",
        asked,
        CONTEXT,
        OTHER_CONTEXT,
        first=destroy,
        extra_data=named(OTHER_CONTEXT),
        signature=b"",
    ),
    "the context comes before the signature": Case(
        "InvalidKmsContext", CONTEXT, first=destroy, extra_data=named(CONTEXT), signature=b""
    ),
    "the signer comes before the sender": Case(
        "NotKmsSigner", STRANGER, signer="stranger", sender="stranger"
    ),
    "the sender comes before answered already": Case(
        "KmsSignerDoesNotMatchTxSender",
        US,
        key_for("sender of them").address,
        first=answer,
        sender="sender of them",
    ),
}
PROFILE = Fhevm(vectors.vector_settings())
ROWS = {
    "publicDecryptionResponse": PROFILE.operations[Kind.PUBLIC_DECRYPTION],
    "userDecryptionResponse": PROFILE.operations[Kind.USER_DECRYPTION],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
async def test_a_wrong_reply_is_refused_as_annex_a_says(scene: Scene, name: str, form: Form) -> None:
    case = CASES[name]
    if case.first is not None:
        await case.first(scene, form)
    changes = {what: made(value, scene, form) for what, value in case.changes.items()}
    said = await scene.refusals(scene.reply(form, **changes), case.sender)
    assert said == {ERRORS[case.error].encode(*[made(value, scene, form) for value in case.values])}
    (data,) = said
    read = ROWS[form].revert(data)
    assert (read.name, read.verdict) == (case.error, VERDICTS.get(case.error, Verdict.FINAL))


def test_every_revert_of_the_table_is_provoked() -> None:
    """A new entry in the table asks for a case here."""
    assert {case.error for case in CASES.values()} == set(ROWS["publicDecryptionResponse"].verdicts)


@pytest.mark.parametrize("form", FORMS)
async def test_a_right_reply_is_taken_paused_late_or_not(scene: Scene, form: Form) -> None:
    """Late: another node has completed the request. Paused: only requests are refused then."""
    await scene.send(scene.reply(form, signer="signer of them"), "sender of them")
    await scene.gateway.pause()
    receipt = await scene.send(scene.reply(form))
    assert receipt["status"] == "0x1"


async def test_a_reply_of_a_version_1_request_is_taken_after_a_change_of_context(scene: Scene) -> None:
    form: Form = "publicDecryptionResponse"
    await switch(scene, form)
    receipt = await scene.send(scene.reply(form, extra_data=named(CONTEXT)))
    assert receipt["status"] == "0x1"


async def test_a_request_while_paused_is_refused(scene: Scene) -> None:
    await scene.gateway.pause()
    assert await scene.refusals(public_request(HANDLES)) == {DECRYPTION.error("EnforcedPause").encode()}


USER, DELEGATE = key_for("user"), key_for("delegate")
OWNER = key_for("owner").address
CROWD = tuple(Address(bytes([n]) * 20) for n in range(1, 12))
DAY = 86_400


def handle(fhe_type: int = 2, chain_id: int = HOST_ID, seed: bytes = b"other") -> bytes:
    return make_handle(seed, chain_id=chain_id, fhe_type=fhe_type)


def direct(
    scene: Scene,
    *,
    pairs: Any = None,
    contracts: tuple[Address, ...] = (APP,),
    days: int = 30,
    start: int | None = None,
    user: Address = USER.address,
    extra_data: bytes = b"",
    spoil: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """Return a legacy request of the user, rightly signed unless ``spoil`` changes the signature."""
    begin = scene.start if start is None else start
    values = (USER_KEY.enc_key, contracts, begin, days, extra_data)
    domain = request_calls.request_domain(scene.gateway.decryption, HOST_ID)
    signature = USER.sign(signing_digest(domain, hash_struct(request_calls.DIRECT_TYPE, *values)))
    asked = tuple((each, APP) for each in HANDLES) if pairs is None else pairs
    return DECRYPTION.function(DIRECT_CALL).encode(
        asked, (begin, days), (HOST_ID, contracts), user, USER_KEY.enc_key, spoil(signature), extra_data
    )


def delegated(scene: Scene, owner: Address = OWNER, **changes: Any) -> bytes:
    """Return a legacy request of a delegate."""
    asking = scene.asking(**changes)
    return legacy_request(asking, DELEGATE, [(each, APP) for each in HANDLES], owner)


def unified(
    scene: Scene, entries: Any = None, seconds: int = DAY, start: int | None = None, contracts: Any = ()
) -> bytes:
    """Return a unified request without a signature, which the Gateway does not look at."""
    asked = tuple((each, APP, OWNER) for each in HANDLES) if entries is None else entries
    validity = (scene.start if start is None else start, seconds)
    return DECRYPTION.function(UNIFIED_CALL).encode(
        asked, USER.address, USER_KEY.enc_key, contracts, validity, b"", b""
    )


TAKEN: dict[str, Callable[[Scene], bytes]] = {
    "EmptyCtHandles": lambda _: public_request([]),
    "InvalidFHEType": lambda _: public_request([HANDLES[0][:30] + b"\xff\x00"]),
    "UnsupportedFHEType": lambda _: public_request([handle(9)]),
    "MaxDecryptionRequestBitSizeExceeded": lambda _: public_request([handle(8)] * 9),
    "HostChainNotRegistered": lambda _: public_request([handle(chain_id=HOST_ID + 1)]),
    "InvalidKmsContext": lambda _: public_request(HANDLES, b"\x01" + UNKNOWN_CONTEXT.to_bytes(32)),
    "UnsupportedExtraDataVersion": lambda _: public_request(HANDLES, b"\x03"),
    "InvalidExtraDataLength": lambda _: public_request(HANDLES, b"\x02" + bytes(31)),
    "InvalidNullContextId": lambda _: public_request(HANDLES, b"\x01" + bytes(32)),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_a_wrong_request_is_refused(scene: Scene, name: str) -> None:
    refusals = await scene.refusals(TAKEN[name](scene), "relayer")
    assert {data and data[:4] for data in refusals} == {DECRYPTION.error(name.partition(",")[0]).selector}, (
        refusals
    )  # arguments may hold the time


async def test_a_handle_that_nobody_committed_is_refused(scene: Scene) -> None:
    (data,) = await scene.refusals(public_request([handle()]), "relayer")
    assert data is not None
    assert data[4:] == handle()


async def test_right_requests_of_every_form_are_taken(scene: Scene) -> None:
    asking = scene.asking()
    signature = sign_unified(asking, USER, USER.address, HOST_ID)
    entries = [(each, APP, OWNER) for each in HANDLES]
    forms = (
        public_request([*HANDLES, *HANDLES]),
        direct(scene),
        delegated(scene),
        unified(scene, contracts=CROWD[:10]),
        unified_request(asking, USER.address, entries, signature),
    )
    for calldata in forms:
        receipt = await scene.send(calldata, "relayer")
        assert len(receipt["logs"]) == 1
