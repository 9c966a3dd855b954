from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from kmsconn._generated.httpz_rc7.kms.v1 import (
    DecryptionResponse,
    DecryptionResponsePayload,
    FheType,
    ReencryptionResponse,
    ReencryptionResponsePayload,
    TypedPlaintext,
    TypedSigncryptedCiphertext,
)
from kmsconn.errors import Broken
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.life import Answer
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols import bincode
from kmsconn.protocols.httpz_rc7 import decryptions
from kmsconn.protocols.httpz_rc7.contracts import AUTO, HttpzDeployment
from kmsconn.protocols.httpz_rc7.decryptions import (
    HttpzPublicDecryption,
    HttpzPublicDecryptions,
    HttpzUserDecryption,
    HttpzUserDecryptions,
    links,
)
from kmsconn.protocols.httpz_rc7.messages import PlaintextForm, encode_plaintexts, public_digest, user_digest
from kmsconn.protocols.httpz_rc7.profile import EVENTS
from tests.vectors import httpz


@attrs.frozen
class Replies:
    """Both operations under one domain of the DecryptionManager."""

    domain: Domain
    forms: Sequence[PlaintextForm] = AUTO

    @property
    def deployment(self) -> HttpzDeployment:
        return attrs.evolve(HttpzDeployment.of(httpz.settings()), manager=self.domain, forms=self.forms)

    def public(self, content: HttpzPublicDecryption, reply: bytes, expected: Address) -> Answer:
        return HttpzPublicDecryptions(self.deployment).read_answer(content, reply, expected)

    def user(self, content: HttpzUserDecryption, reply: bytes, expected: Address) -> Answer:
        return HttpzUserDecryptions(self.deployment).read_answer(content, reply, expected)


READER = Replies(httpz.domain())
KEY = PrivateKey((1).to_bytes(32))
SIGNER = KEY.address
STRANGER = PrivateKey((2).to_bytes(32))
HANDLE = from_hex(httpz.annex()["handle_example"])
USER = parse_address("0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045")
PUBLIC_KEY = from_hex("0x2000000000000000" + "42" * 32)
REFERENCE = CiphertextReference(HANDLE, 7, bytes(32), ())
PUBLIC = HttpzPublicDecryption(1, (REFERENCE,), numeric=False)
USERS = HttpzUserDecryption(1, (REFERENCE,), False, USER, PUBLIC_KEY)
ANNEX_READER = Replies(httpz.annex_domain())


def recorded(group: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return (revision, request, reply of one node)."""
    return [(revision, entry["request"], entry["reply"]) for revision, entry in httpz.exchanges(group)]


def several(revision: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return the exchanges in which several nodes answer the one request."""
    entries = httpz.load()[revision]["threshold_1"].values()
    return [
        (revision, entry["request"], reply)
        for entry in entries
        if "core_answer" in entry["replies"][0] and "publicDecryptionId" in entry["request"]["decoded"]
        for reply in entry["replies"]
    ]


PUBLIC_REPLIES = [*recorded("public_decryption"), *several("bytes32"), *several("uint256")]
USER_REPLIES = [
    *recorded("user_decryption"),
    *[
        ("uint256", one["request"], one["reply"])
        for one in httpz.load()["uint256"]["profile_A_user_decryption"]
    ],
]


def content_of(request: dict[str, Any]) -> Any:
    return EVENTS.decode(httpz.read_log(request["log"]))


def core_answer(reply: dict[str, Any]) -> bytes:
    return from_hex(reply["core_answer"]["protobuf"])


@pytest.mark.parametrize(("revision", "request_", "reply"), PUBLIC_REPLIES)
def test_calldata_of_public_replies_in_every_form(
    revision: str, request_: dict[str, Any], reply: dict[str, Any]
) -> None:
    signer = parse_address(reply["signer"])
    found = READER.public(content_of(request_), core_answer(reply), signer)
    assert found == Answer(from_hex(reply["calldata"]), signer)


@pytest.mark.parametrize(("revision", "request_", "reply"), USER_REPLIES)
def test_calldata_of_user_replies_of_both_shapes(
    revision: str, request_: dict[str, Any], reply: dict[str, Any]
) -> None:
    signer, content = parse_address(reply["signer"]), content_of(request_)
    found = READER.user(content, core_answer(reply), signer)
    assert found == Answer(from_hex(reply["calldata"]), signer)
    both = links(httpz.domain(), content)
    assert both.index(from_hex(reply["core_answer"]["digest"])) == (revision == "uint256")


def public_answer(form: PlaintextForm = PlaintextForm.P3, key: PrivateKey = KEY, **changes: Any) -> bytes:
    """Return an answer to PUBLIC: a u64 of 1000, signed in a form."""
    values = [(5, (1000).to_bytes(8, "little"))]
    digest = public_digest(httpz.annex_domain(), [HANDLE], encode_plaintexts(form, values), numeric=False)
    payload = DecryptionResponsePayload(
        plaintexts=[TypedPlaintext(bytes=raw, fhe_type=FheType(kind)) for kind, raw in values],
        external_signature=changes.pop("signature", key.sign(digest)),
    )
    for name, value in changes.items():
        setattr(payload, name, value)
    return bytes(DecryptionResponse(signature=b"internal", payload=payload))


def test_annex_a3_calldata() -> None:
    found = ANNEX_READER.public(PUBLIC, public_answer(PlaintextForm.P1), SIGNER)
    assert found.calldata == from_hex(httpz.annex()["public_decryption_response_calldata"])


@pytest.mark.parametrize("form", PlaintextForm)
def test_a_form_that_is_configured_is_the_only_one(form: PlaintextForm) -> None:
    reader = Replies(httpz.annex_domain(), (form,))
    for signed in PlaintextForm:
        found = reader.public(PUBLIC, public_answer(signed), SIGNER)
        assert (found.signer == SIGNER) == (signed is form)


def test_what_nobody_known_signed_comes_back_with_whoever_signed_it() -> None:
    found = ANNEX_READER.public(PUBLIC, public_answer(key=STRANGER), SIGNER)
    assert found.signer == STRANGER.address


def test_an_answer_for_another_request_has_another_signer() -> None:
    other = attrs.evolve(PUBLIC, references=(attrs.evolve(REFERENCE, handle=HANDLE[::-1]),))
    for content in (other, attrs.evolve(PUBLIC, numeric=True)):
        assert ANNEX_READER.public(content, public_answer(), SIGNER).signer != SIGNER
    user = attrs.evolve(USERS, public_key=PUBLIC_KEY[::-1])
    assert ANNEX_READER.user(user, user_answer(user_payload()), SIGNER).signer != SIGNER


def user_payload(**changes: Any) -> ReencryptionResponsePayload:
    """Return the payload of the worked example (2.4)."""
    values: dict[str, Any] = {
        "verification_key": b"\x02\xaa\xbb",
        "digest": b"\xd1\xd2",
        "signcrypted_ciphertexts": [
            TypedSigncryptedCiphertext(
                fhe_type=FheType(5), signcrypted_ciphertext=b"\xc1\xc2\xc3", external_handle=HANDLE
            )
        ],
        "party_id": 1,
        "degree": 1,
    }
    return ReencryptionResponsePayload(**(values | changes))


def user_answer(payload: ReencryptionResponsePayload, handles: list[bytes] | None = None) -> bytes:
    share = bincode.encode(payload)
    digest = user_digest(httpz.annex_domain(), PUBLIC_KEY, handles or [HANDLE], share, numeric=False)
    return bytes(ReencryptionResponse(external_signature=KEY.sign(digest), payload=payload))


def test_the_share_of_the_worked_example_has_its_92_bytes() -> None:
    found = ANNEX_READER.user(USERS, user_answer(user_payload()), SIGNER)
    assert found.signer == SIGNER
    share = decryptions.USER_RESPONSE.decode(found.calldata)[1]
    assert share == from_hex("0x" + httpz.annex()["user_payload_bincode"]["hex"].removeprefix("0x"))
    assert len(share) == 92


def test_a_short_handle_in_the_answer_is_the_one_filled_up() -> None:
    long = b"\x05".rjust(32, b"\0")
    content = attrs.evolve(USERS, references=(attrs.evolve(REFERENCE, handle=long),))
    short = [TypedSigncryptedCiphertext(signcrypted_ciphertext=b"\xc1", external_handle=b"\x05")]
    answer = user_answer(user_payload(signcrypted_ciphertexts=short), [long])
    assert ANNEX_READER.user(content, answer, SIGNER).signer == SIGNER


Read = Callable[[bytes], Answer]


def read_public(reply: bytes) -> Answer:
    return ANNEX_READER.public(PUBLIC, reply, SIGNER)


def read_user(reply: bytes) -> Answer:
    return ANNEX_READER.user(USERS, reply, SIGNER)


def with_signature(signature: bytes) -> bytes:
    return bytes(ReencryptionResponse(external_signature=signature, payload=user_payload()))


GOOD = KEY.sign(bytes(32))


@pytest.mark.parametrize(
    ("read", "reply", "reason"),
    [
        (read_public, public_answer(signature=bytes(64)), "64 bytes, not 65"),
        (read_public, public_answer(signature=b""), "0 bytes, not 65"),
        (read_public, public_answer(signature=None), "0 bytes, not 65"),
        *(
            (read_public, public_answer(signature=wrong), "does not accept signatures of this form")
            for wrong in (GOOD[:64] + b"\x00", GOOD[:64] + b"\x1d", bytes(64) + b"\x1b")
        ),
        (read_public, public_answer(plaintexts=[]), "0 values for 1 handles"),
        (
            read_public,
            public_answer(plaintexts=[TypedPlaintext(bytes=bytes(300), fhe_type=FheType(9))] * 2),
            "2 values for 1 handles",
        ),
        (read_public, b"", "no payload"),
        (read_public, b"\xff", "no DecryptionResponse"),
        (read_user, with_signature(bytes(66)), "66 bytes, not 65"),
        (read_user, with_signature(b""), "0 bytes, not 65"),
        (read_user, b"", "no payload"),
        (read_user, b"\xff", "no ReencryptionResponse"),
        (
            read_user,
            bytes(ReencryptionResponse(external_signature=b"\xff" * 65)),
            "no ReencryptionResponsePayload",
        ),
        (read_user, user_answer(user_payload(signcrypted_ciphertexts=[])), "0 values for 1 handles"),
        (
            read_user,
            user_answer(
                user_payload(signcrypted_ciphertexts=[TypedSigncryptedCiphertext(external_handle=b"x")])
            ),
            "other handles",
        ),
    ],
)
def test_answers_that_no_honest_core_gives(read: Read, reply: bytes, reason: str) -> None:
    with pytest.raises(Broken, match=reason):
        read(reply)


def test_values_that_no_form_can_hold() -> None:
    reader = Replies(httpz.annex_domain(), (PlaintextForm.P3,))
    wrong = [TypedPlaintext(bytes=bytes(33), fhe_type=FheType(5))]
    with pytest.raises(Broken, match="no encoding of that generation"):
        reader.public(PUBLIC, public_answer(plaintexts=wrong), SIGNER)


def test_a_type_of_another_era_is_no_value() -> None:
    payload = b"\x1a\x05\x0a\x01\x01\x10\x0c" + b"\x22\x41" + GOOD
    with pytest.raises(Broken, match="no encoding of that generation"):
        read_public(b"\x12" + bytes([len(payload)]) + payload)


def test_the_expected_signer_decides_among_forms() -> None:
    """A form that recovers to somebody is not taken for that: only the node's own signature counts."""
    found = ANNEX_READER.public(PUBLIC, public_answer(PlaintextForm.P2), Address(SIGNER))
    result = decryptions.PUBLIC_RESPONSE.decode(found.calldata)[1]
    assert result == encode_plaintexts(PlaintextForm.P2, [(5, (1000).to_bytes(8, "little"))])


@pytest.mark.parametrize("numeric", [False, True])
def test_a_share_with_either_form_of_the_link_has_no_mismatch(numeric: bool) -> None:
    link = links(httpz.annex_domain(), USERS)[numeric]
    assert ANNEX_READER.user(USERS, user_answer(user_payload(digest=link)), SIGNER).mismatch == ""
    other = ANNEX_READER.user(USERS, user_answer(user_payload()), SIGNER)
    assert "not that of the request" in other.mismatch, (
        "the contract takes it, so that only a word is said (3.4)"
    )


@pytest.mark.parametrize(("revision", "entry"), httpz.exchanges("client_library"), ids=httpz.name_of)
def test_shares_that_the_client_library_opened_read_back_to_the_same_bytes(
    revision: str, entry: dict[str, Any]
) -> None:
    images = [bytes.fromhex(one["payload"]) for one in entry["input"]["responses"]]
    assert [bincode.encode(bincode.decode(image, packed=False)) for image in images] == images
