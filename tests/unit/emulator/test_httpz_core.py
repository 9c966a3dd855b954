"""The Core of the first generation, asked by a client that is not ours; and how shares are sealed in both (kms-core-grpc.md, 6 to 12)."""

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
from kmsconn.emulator.httpz.signcryption import pack_key, seal
from kmsconn.emulator.httpz.signcryption import unpack_key as unpack_x25519
from kmsconn.emulator.signcryption import (
    ABI_TYPES,
    PLAINTEXT_BYTES,
    UserKey,
    abi_word,
    bits_of,
    constant_share,
    little_endian,
    unpack_key,
)
from kmsconn.ethereum.addresses import checksum, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import recover
from kmsconn.protocols import bincode
from kmsconn.protocols.httpz_rc7.messages import PlaintextForm, encode_plaintexts, public_digest
from kmsconn.transport.grpc.framing import Status
from tests import vectors
from tests.opening import open_httpz_share, value_of_share
from tests.unit.emulator.core_worlds import USER_KEY
from tests.unit.emulator.h2_caller import Outcome, calling
from tests.vectors import httpz

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


@pytest.mark.parametrize(("value", "kind"), [(4, 0), (16, 1), (256, 2), (1 << 160, 7), (-1, 5)])
def test_a_value_beyond_its_type_is_refused(value: int, kind: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        little_endian(value, kind)


def test_a_type_that_no_core_decrypts_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be decrypted"):
        little_endian(1, 34)


@pytest.mark.parametrize("kind", sorted(PLAINTEXT_BYTES.keys() - ABI_TYPES.keys()))
def test_types_without_a_word_are_refused_publicly(kind: int) -> None:
    with pytest.raises(ValueError, match="publicly"):
        abi_word(1, kind)


def test_the_share_of_the_specification() -> None:
    """Uint8 200 is the blocks 0, 2, 0, 3, each times 2^123 (11.2, step 4)."""
    share = constant_share(200, 2)
    assert share[:8] == bytes.fromhex("0100000000000000")
    assert [share[8 + at : 24 + at] for at in (0, 16, 32, 48)] == [
        (block << 123).to_bytes(16, "little") for block in (0, 2, 0, 3)
    ]
    assert len(share) == 72


@pytest.mark.parametrize("kind", sorted(ABI_TYPES))
def test_a_share_reads_back(kind: int) -> None:
    value = 1 if kind == 0 else (1 << bits_of(kind)) - 5
    assert value_of_share(constant_share(value, kind)) == value


@pytest.mark.parametrize(
    "container",
    [
        b"",
        USER_KEY.enc_key[:-1],
        USER_KEY.enc_key + b"\0",
        USER_KEY.enc_key[:57] + b"\1" + USER_KEY.enc_key[58:],
        (800).to_bytes(8, "little") + USER_KEY.enc_key[-800:],
    ],
)
def test_other_containers_are_refused(container: bytes) -> None:
    """Cut, too long, ML-KEM-1024, and the older bare form."""
    with pytest.raises(ValueError, match="ML-KEM-512"):
        unpack_key(container)


def test_reprs_hold_no_key() -> None:
    assert USER_KEY.secret_key.hex()[:16] not in repr(USER_KEY)


def test_the_users_key_pair_of_the_vectors() -> None:
    published = vectors.load()["user_key"]
    made = UserKey.from_seed(from_hex(published["seed_d_z"]))
    assert made.enc_key == from_hex(published["enc_key"])
    assert made.secret_key == from_hex(published["client_secret_key_blob"])[8:]


OPENER = parse_address(httpz.load()["keys"]["user"]["address"])
SECRET_KEY = from_hex(httpz.load()["keys"]["user_x25519"]["private_key"])
ENC_KEY = from_hex(httpz.load()["keys"]["user_x25519"]["enc_key"])
OPENED = [entry for _, entry in httpz.exchanges("client_library") if "ok" in entry["output"]]


@pytest.mark.parametrize("entry", OPENED, ids=httpz.name_of)
def test_what_the_client_library_opened_opens_here_to_the_same_values(entry: dict[str, Any]) -> None:
    expected = [(kind, int(value, 16)) for kind, value in entry["output"]["ok"]]
    for response in entry["input"]["responses"]:
        payload = bincode.decode(bytes.fromhex(response["payload"]), packed=False)
        found = [
            open_httpz_share(
                SECRET_KEY, share.signcrypted_ciphertext, client=OPENER, vk=payload.verification_key
            )
            for share in payload.signcrypted_ciphertexts
        ]
        assert {one.link for one in found} == {payload.digest}
        read = value_of_share if payload.degree else of_little_endian
        assert [(one.fhe_type, read(one.plaintext)) for one in found] == expected


def of_little_endian(plaintext: bytes) -> int:
    return int.from_bytes(plaintext, "little")


@pytest.mark.parametrize("enc_key", [b"", ENC_KEY[8:], ENC_KEY[:-1], ENC_KEY + b"\0", b"\x21" + ENC_KEY[1:]])
def test_anything_else_is_no_key(enc_key: bytes) -> None:
    with pytest.raises(ValueError, match="X25519"):
        unpack_x25519(enc_key)


ALICE = bytes.fromhex(
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
)  # her public key; BOB is a secret one
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
MESSAGE = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296c"
    "dc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde0489"
    "77eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
)
BOX = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0"
    "dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae9022"
    "4368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
)


def test_the_example_of_nacl_is_sealed_to_its_bytes() -> None:
    """A box is the same in both directions."""
    assert seal(MESSAGE, NONCE, recipient=ALICE, secret=BOB) == BOX
