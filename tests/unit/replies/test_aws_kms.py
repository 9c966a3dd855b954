"""A key in AWS KMS as a signer, against the emulated service in virtual time."""

from __future__ import annotations

import base64
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.config.description import AwsKmsKey
from kmsconn.config.settings import Settings
from kmsconn.emulator.aws_kms import EmulatedAwsKms, KmsFault, KmsRefusal
from kmsconn.errors import Misconfigured, Overloaded, StartRefused, Unreachable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, is_canonical, recover
from kmsconn.model.events import AlertCleared, AlertRaised, Event, ignore
from kmsconn.model.life import State
from kmsconn.replies import wallet
from kmsconn.replies.wallet import (
    SIGNATURES_AT_ONCE,
    SIGNING,
    STARTING,
    AwsKmsSigner,
    Wallet,
    find_signer,
    open_tx_sender,
    open_wallet,
    read_public_key,
)
from tests.unit.replies.world import KEY, World, all_in, running, until
from tests.vectors import keys

DIGESTS = [keccak256(bytes([n])) for n in range(100)]


@attrs.define
class Direct:
    """AWS KMS without HTTP: asks the emulated one as the SDK does, and means by its refusals what ``net.aws`` does."""

    kms: EmulatedAwsKms
    busy: int = 0
    most: int = 0

    async def ask(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await trio.sleep(self.kms.latency)
            name = "".join(part.capitalize() for part in operation.split("_"))
            coded = {
                k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in parameters.items()
            }
            answer = await self.kms.answer(name, coded)
        except KmsRefusal as refusal:
            if refusal.code == "ThrottlingException":
                raise Overloaded(refusal.code) from None
            kind = Unreachable if refusal.status >= 500 else Misconfigured
            raise kind(refusal.code) from None
        finally:
            self.busy -= 1
        blobs = {"PublicKey", "Signature"}
        return {k: base64.b64decode(v) if k in blobs else v for k, v in answer.items()}


def service(**knobs: Any) -> Direct:
    return Direct(EmulatedAwsKms({"alias/x": KEY}, **knobs))


async def signer_of(direct: Direct) -> AwsKmsSigner:
    return await find_signer(direct, "alias/x", ignore)


# --- signatures


async def test_signatures_are_those_that_the_key_in_memory_makes_whatever_half_s_was_in() -> None:
    """The emulated service signs deterministically and inverts every second s."""
    direct = service()
    signer = await signer_of(direct)
    assert signer.address == KEY.address
    assert await signer.sign([]) == []
    assert direct.kms.counts["Sign"] == 0, "nothing to sign asks nobody"
    signatures = await signer.sign(DIGESTS)
    assert signatures == [KEY.sign(digest) for digest in DIGESTS]
    assert all(is_canonical(signature) for signature in signatures)
    assert recover(DIGESTS[0], signatures[0]) == KEY.address


async def test_so_many_are_on_their_way_at_once_and_no_more() -> None:
    direct = service(latency=0.1)
    signer, began = await signer_of(direct), trio.current_time()
    assert len(await signer.sign(DIGESTS)) == 100
    assert direct.most == SIGNATURES_AT_ONCE
    assert trio.current_time() - began == pytest.approx(0.1 * math.ceil(100 / SIGNATURES_AT_ONCE))


async def test_two_transaction_managers_share_the_connections_of_one_wallet() -> None:
    """The SDK's client may lose places that are waited for."""
    direct = service(latency=0.1)
    signer = await signer_of(direct)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signer.sign, DIGESTS)
        nursery.start_soon(signer.sign, DIGESTS)
    assert direct.most == SIGNATURES_AT_ONCE


# --- failing on the way


async def test_what_was_signed_before_the_throttle_comes_back() -> None:
    direct = service()
    signer = await signer_of(direct)
    direct.kms.fault = lambda _: KmsFault.THROTTLED if direct.kms.counts["Sign"] >= 40 else None
    signatures = await signer.sign(DIGESTS)
    assert signatures == [KEY.sign(digest) for digest in DIGESTS[: len(signatures)]]
    assert 20 < len(signatures) <= 40


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (KmsFault.THROTTLED, Overloaded),
        (KmsFault.INTERNAL, Unreachable),
        (KmsFault.UNAVAILABLE, Unreachable),
        (KmsFault.GARBLED, Unreachable),
        (KmsFault.DENIED, Misconfigured),
        (KmsFault.DISABLED, Misconfigured),
        (KmsFault.WRONG_KEY, Misconfigured),
        (KmsFault.HANG, Unreachable),
    ],
)
async def test_a_fault_of_the_first_says_what_to_do(fault: KmsFault, kind: type) -> None:
    direct = service()
    signer = await signer_of(direct)
    direct.kms.fault = lambda _: fault
    with pytest.raises(kind) as failed:
        await signer.sign(DIGESTS)
    assert type(failed.value) is kind


async def test_a_service_that_hangs_on_the_way_costs_one_deadline_and_nothing_signed() -> None:
    direct = service()
    signer = await signer_of(direct)
    direct.kms.fault = lambda _: KmsFault.HANG if direct.kms.counts["Sign"] >= 40 else None
    began = trio.current_time()
    signatures = await signer.sign(DIGESTS)
    assert signatures == [KEY.sign(digest) for digest in DIGESTS[: len(signatures)]]
    assert 20 < len(signatures) <= 40
    assert trio.current_time() - began == pytest.approx(SIGNING)


@pytest.mark.slow
@given(st.sets(st.integers(0, 30)), st.integers(1, 30))
async def test_what_comes_back_is_always_the_first_signatures(failing: set[int], count: int) -> None:
    direct = service()
    signer = await signer_of(direct)
    asked = iter(range(10**6))
    direct.kms.fault = lambda _: KmsFault.THROTTLED if next(asked) in failing else None
    try:
        signatures = await signer.sign(DIGESTS[:count])
    except Overloaded:
        signatures = []
    assert signatures == [KEY.sign(digest) for digest in DIGESTS[: len(signatures)]]
    assert len(signatures) == count or failing


async def test_a_signature_of_another_key_is_never_used() -> None:
    direct = service()
    signer = await signer_of(direct)
    direct.kms.fault = lambda _: KmsFault.WRONG_KEY
    with pytest.raises(Misconfigured, match="another key"):
        await signer.sign(DIGESTS[:1])


async def test_cancelling_a_signature_leaves_the_signer_whole() -> None:
    direct = service()
    signer = await signer_of(direct)
    direct.kms.latency = 5.0
    with trio.move_on_after(1.0) as scope:
        await signer.sign(DIGESTS)
    assert scope.cancelled_caught
    assert direct.busy == 0
    assert await signer.sign(DIGESTS[:1]) == [KEY.sign(DIGESTS[0])]


# --- the start


@pytest.mark.parametrize("fault", [KmsFault.DENIED, KmsFault.DISABLED, KmsFault.GARBLED])
async def test_a_key_that_may_not_be_used_is_told_at_once(fault: KmsFault) -> None:
    direct = service()
    direct.kms.fault = lambda _: fault
    with pytest.raises(Misconfigured):
        await signer_of(direct)
    assert trio.current_time() == 0


async def test_a_key_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(Misconfigured, match="NotFound"):
        await find_signer(service(), "alias/y", ignore)


@pytest.mark.parametrize("fault", [KmsFault.HANG, KmsFault.THROTTLED, KmsFault.INTERNAL])
async def test_a_service_that_stays_silent_ends_the_start(fault: KmsFault) -> None:
    direct, events = service(), list[Event]()
    direct.kms.fault = lambda _: fault
    with pytest.raises(StartRefused, match="AWS KMS initialization failed"):
        await find_signer(direct, "alias/x", events.append)
    assert STARTING < trio.current_time() < STARTING + 10
    assert [type(event) for event in events] == [AlertRaised]


async def test_a_service_that_is_silent_for_a_moment_is_waited_for() -> None:
    direct, events = service(), list[Event]()
    direct.kms.fault = lambda _: KmsFault.THROTTLED if trio.current_time() < 5 else None
    signer = await find_signer(direct, "alias/x", events.append)
    assert signer.address == KEY.address
    assert [type(event) for event in events] == [AlertRaised, AlertCleared]


# --- the account that the settings name


@asynccontextmanager
async def open_direct(*_: object) -> AsyncIterator[AwsKmsSigner]:
    yield await signer_of(service())


def settings_of(sender: Address | None) -> Settings:
    return keys.SETTINGS.but(private_key=None, aws_kms=AwsKmsKey("alias/x"), tx_sender_address=sender)


@pytest.mark.parametrize("opened", [open_wallet, open_tx_sender])
async def test_a_start_under_another_account_than_the_keys_is_refused_and_names_both(
    monkeypatch: pytest.MonkeyPatch, opened: Any
) -> None:
    monkeypatch.setattr(wallet, "open_aws_kms", open_direct)
    another = Address(b"\x77" * 20)
    with pytest.raises(StartRefused) as refused:
        async with opened(settings_of(another), ignore):
            pass
    for told in ("tx_sender_address", checksum(another), checksum(KEY.address), "alias/x"):
        assert told in str(refused.value)


@pytest.mark.parametrize("sender", [None, KEY.address])
async def test_a_start_under_the_keys_account_or_none_is_not(
    monkeypatch: pytest.MonkeyPatch, sender: Address | None
) -> None:
    monkeypatch.setattr(wallet, "open_aws_kms", open_direct)
    async with open_tx_sender(settings_of(sender), ignore) as opened:
        assert isinstance(opened, Wallet)
        assert opened.address == KEY.address


def _der(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


_GOOD = {"KeySpec": "ECC_SECG_P256K1", "KeyUsage": "SIGN_VERIFY"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({**_GOOD, "KeySpec": "RSA_2048"}, "RSA_2048 for SIGN_VERIFY"),
        ({**_GOOD, "KeyUsage": "KEY_AGREEMENT"}, "for KEY_AGREEMENT"),
        (_GOOD, "holds no public key"),
        ({**_GOOD, "PublicKey": b"\x30\x00"}, "holds no public key"),
        ({**_GOOD, "PublicKey": _der(ec.generate_private_key(ec.SECP256R1()))}, "not on secp256k1"),
        ({**_GOOD, "PublicKey": _der(rsa.generate_private_key(65537, 2048))}, "not on secp256k1"),
    ],
)
def test_a_key_that_cannot_sign_transactions_is_named(answer: dict[str, Any], told: str) -> None:
    with pytest.raises(Misconfigured, match=told):
        read_public_key(answer)


def test_the_older_name_of_the_key_spec_is_read() -> None:
    key = ec.derive_private_key(int.from_bytes(bytes.fromhex("11" * 32)), ec.SECP256K1())
    answer = {"CustomerMasterKeySpec": "ECC_SECG_P256K1", "KeyUsage": "SIGN_VERIFY", "PublicKey": _der(key)}
    assert read_public_key(answer) == PrivateKey.parse("11" * 32).address


# --- with a transaction manager


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["arbitrum", "geth"])
@pytest.mark.parametrize(
    "fault", [KmsFault.THROTTLED, KmsFault.HANG, KmsFault.WRONG_KEY, KmsFault.DENIED, KmsFault.GARBLED]
)
async def test_a_transaction_manager_waits_for_its_key_and_is_included_every_reply_once(
    pool: Any, fault: KmsFault
) -> None:
    direct, world = service(latency=0.03), World(pool=pool)
    world.wallet = Wallet(KEY.address, (await signer_of(direct)).sign)
    began = trio.current_time()
    direct.kms.fault = lambda _: fault if 2 < trio.current_time() - began < 60 else None
    async with running(world):
        for rid in range(1, 41):
            world.request(rid)
            world.wake.notify()
            await trio.sleep(0.2)
        await until(lambda: all_in(world, State.FINALIZED))
    assert len(world.ours()) == 40
    assert [(t.dependency, t.cause) for t in world.said(AlertRaised)] == [("txmanager gateway", "wallet")]
    assert [(r.dependency, r.cause) for r in world.said(AlertCleared)] == [("txmanager gateway", "wallet")]


@pytest.mark.parametrize("signature", [None, 7, "text", b"", b"\x30\x80", bytes(5_000)])
async def test_a_signature_that_is_none_is_no_answer(signature: object) -> None:
    @attrs.frozen
    class Service:
        async def ask(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
            await trio.lowlevel.checkpoint()
            return {"Signature": signature}

    with pytest.raises(Unreachable, match="no DER signature"):
        await AwsKmsSigner(KEY.address, "key", Service()).sign(DIGESTS[:1])


# A key of the algorithm 1.2.3, which no library knows.
UNKNOWN_KEY = bytes.fromhex("300a300406022a03030200aa")


@pytest.mark.parametrize("key", [None, 7, "text", b"", bytes(100), UNKNOWN_KEY])
def test_a_public_key_that_is_none_is_no_key(key: object) -> None:
    with pytest.raises(Misconfigured, match="no public key"):
        read_public_key({"KeySpec": "ECC_SECG_P256K1", "KeyUsage": "SIGN_VERIFY", "PublicKey": key})
