"""Every refusal of a reply in annex A, provoked on the contracts and read by the table: the same bytes from the emulator and from anvil."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from kmsconn.emulator.contracts.request_calls import public_request
from kmsconn.emulator.dependencies import key_for
from kmsconn.emulator.fhevm_dependencies import CONTEXT
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import recover
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import ALL_ERRORS, DECRYPTION
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import Verdict
from tests import vectors
from tests.real.gateway_scene import COMMITTEE, FORMS, HANDLES, OTHER_CONTEXT, UNKNOWN_CONTEXT, Form, Scene

ERRORS = {error.name: error for error in ALL_ERRORS.values()}
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
US, THEM = key_for("signer of us").address, key_for("signer of them").address
OUR_SENDER = key_for("sender of us").address
SHORT = b"\x01" + bytes(31)


@attrs.frozen
class Case:
    """A wrong reply: what is done first, how the reply is made, and what must be said to it."""

    error: str
    values: Callable[[Scene, Form], tuple[Any, ...]]
    verdict: Verdict
    make: Callable[[Scene, Form], bytes]
    first: Callable[[Scene, Form], Awaitable[object]] | None = None
    sender: str = "sender of us"


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


def none(scene: Scene, form: Form) -> tuple[Any, ...]:
    """Return the arguments of an error that has none."""
    del scene, form
    return ()


def later(scene: Scene, form: Form) -> int:
    return scene.ids[form] + 1


def recovered_from_other_bytes(scene: Scene, form: Form) -> tuple[Address | None]:
    return (recover(scene.digest(form), ours(scene, form, b"\x00")),)


CASES = {
    "answered already": Case(
        "KmsNodeAlreadySigned",
        lambda scene, form: (scene.ids[form], US),
        Verdict.DONE,
        lambda scene, form: scene.reply(form),
        first=answer,
    ),
    "an id above the counter": Case(
        "DecryptionNotRequested",
        lambda scene, form: (later(scene, form),),
        Verdict.RETRY,
        lambda scene, form: scene.reply(form, identifier=later(scene, form)),
    ),
    "the bare tag as an id": Case(
        "DecryptionNotRequested",
        lambda scene, form: (scene.ids[form] - 1,),
        Verdict.RETRY,
        lambda scene, form: scene.reply(form, identifier=scene.ids[form] - 1),
    ),
    "an id of the other kind": Case(
        "DecryptionNotRequested",
        lambda scene, form: (scene.ids[FORMS[1 - FORMS.index(form)]],),
        Verdict.RETRY,
        lambda scene, form: scene.reply(form, identifier=scene.ids[FORMS[1 - FORMS.index(form)]]),
    ),
    "another context than the pinned one": Case(
        "DecryptionContextMismatch",
        lambda scene, form: (scene.ids[form], CONTEXT, OTHER_CONTEXT),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, extra_data=named(OTHER_CONTEXT)),
    ),
    "an unknown context where another is pinned": Case(
        "DecryptionContextMismatch",
        lambda scene, form: (scene.ids[form], CONTEXT, UNKNOWN_CONTEXT),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, extra_data=named(UNKNOWN_CONTEXT)),
    ),
    "version 0 across a change of context": Case(
        "DecryptionContextMismatch",
        lambda scene, form: (scene.ids[form], CONTEXT, OTHER_CONTEXT),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form),
        first=switch,
    ),
    "the pinned context is destroyed": Case(
        "InvalidKmsContext",
        lambda scene, form: (CONTEXT,),
        Verdict.RETRY,
        lambda scene, form: scene.reply(form, extra_data=named(CONTEXT)),
        first=destroy,
    ),
    "an unknown context where none is pinned": Case(
        "InvalidKmsContext",
        lambda scene, form: (UNKNOWN_CONTEXT,),
        Verdict.RETRY,
        lambda scene, form: scene.reply(form, extra_data=named(UNKNOWN_CONTEXT)),
        first=unpin,
    ),
    "a signer who is no node": Case(
        "NotKmsSigner",
        lambda scene, form: (key_for("stranger").address,),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, signer="stranger"),
    ),
    "other bytes were signed": Case(
        "NotKmsSigner",
        recovered_from_other_bytes,
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, signature=ours(scene, form, b"\x00")),
    ),
    "another node's answer": Case(
        "KmsSignerDoesNotMatchTxSender",
        lambda scene, form: (THEM, OUR_SENDER),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, signer="signer of them"),
    ),
    "our answer from a stranger": Case(
        "KmsSignerDoesNotMatchTxSender",
        lambda scene, form: (US, key_for("stranger").address),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form),
        sender="stranger",
    ),
    "extraData of an unknown version": Case(
        "UnsupportedExtraDataVersion",
        lambda scene, form: (3,),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, extra_data=b"\x03" + CONTEXT.to_bytes(32)),
    ),
    "extraData that is too short": Case(
        "InvalidExtraDataLength",
        lambda scene, form: (32, 33),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, extra_data=SHORT),
    ),
    "extraData with context zero": Case(
        "InvalidNullContextId",
        none,
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, extra_data=named(0)),
    ),
    "a signature of no point": Case(
        "ECDSAInvalidSignature",
        none,
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, signature=bytes(64) + b"\x1b"),
    ),
    "a signature with parity 0 or 1": Case(
        "ECDSAInvalidSignature",
        none,
        Verdict.FINAL,
        lambda scene, form: scene.reply(
            form, signature=ours(scene, form)[:64] + bytes([ours(scene, form)[64] - 27])
        ),
    ),
    "a signature of 64 bytes": Case(
        "ECDSAInvalidSignatureLength",
        lambda scene, form: (64,),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, signature=ours(scene, form)[:64]),
    ),
    "no signature": Case(
        "ECDSAInvalidSignatureLength",
        lambda scene, form: (0,),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, signature=b""),
    ),
    "a signature with high s": Case(
        "ECDSAInvalidSignatureS",
        lambda scene, form: (high_s(ours(scene, form))[32:64],),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, signature=high_s(ours(scene, form))),
    ),
    # From here on more than one thing is wrong: the order of the checks decides.
    "the id comes before the extraData": Case(
        "DecryptionNotRequested",
        lambda scene, form: (later(scene, form),),
        Verdict.RETRY,
        lambda scene, form: scene.reply(form, identifier=later(scene, form), extra_data=b"\x03"),
    ),
    "the extraData comes before the pinned context": Case(
        "InvalidExtraDataLength",
        lambda scene, form: (32, 33),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, extra_data=SHORT, signature=b""),
        first=switch,
    ),
    "the pinned context comes before its validity": Case(
        "DecryptionContextMismatch",
        lambda scene, form: (scene.ids[form], CONTEXT, OTHER_CONTEXT),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, extra_data=named(OTHER_CONTEXT), signature=b""),
        first=destroy,
    ),
    "the context comes before the signature": Case(
        "InvalidKmsContext",
        lambda scene, form: (CONTEXT,),
        Verdict.RETRY,
        lambda scene, form: scene.reply(form, extra_data=named(CONTEXT), signature=b""),
        first=destroy,
    ),
    "the signer comes before the sender": Case(
        "NotKmsSigner",
        lambda scene, form: (key_for("stranger").address,),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form, signer="stranger"),
        sender="stranger",
    ),
    "the sender comes before answered already": Case(
        "KmsSignerDoesNotMatchTxSender",
        lambda scene, form: (US, key_for("sender of them").address),
        Verdict.FINAL,
        lambda scene, form: scene.reply(form),
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
    said = await scene.refusals(case.make(scene, form), case.sender)
    assert said == {ERRORS[case.error].encode(*case.values(scene, form))}
    (data,) = said
    read = ROWS[form].revert(data)
    assert (read.name, read.verdict) == (case.error, case.verdict)


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
