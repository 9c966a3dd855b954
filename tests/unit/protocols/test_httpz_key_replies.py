from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.httpz_rc7.kms.v1 import CrsGenResult, KeyGenResult, RequestId, SignedPubDataHandle
from kmsconn.errors import Broken
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.life import Answer
from kmsconn.protocols.httpz_rc7.contracts import KEY_MANAGER
from kmsconn.protocols.httpz_rc7.key_management import (
    HttpzCrsgen,
    HttpzKeygen,
    HttpzPrepKeygen,
    KeyRequest,
    Kskgen,
)
from kmsconn.protocols.httpz_rc7.messages import object_digest
from kmsconn.protocols.httpz_rc7.profile import EVENTS, HttpzRc7
from tests.vectors import httpz

DOMAIN = httpz.domain("HTTPZ")
PROFILE = HttpzRc7(httpz.settings())
KEY, STRANGER = PrivateKey((1).to_bytes(32)), PrivateKey((2).to_bytes(32))
THREE = RequestId(request_id="3".rjust(64, "0"))
HANDLE = "ab" * 32


def read_answer(content: KeyRequest, reply: bytes, expected: Address | None) -> Answer:
    answer = PROFILE.operations[content.kind].read_answer(content, reply, expected)
    assert answer is not None
    return answer


def replies() -> list[tuple[KeyRequest, dict[str, Any]]]:
    """Return what was asked, and the reply of one node."""
    found = []
    for revision, entry in httpz.exchanges("key_management"):
        content = EVENTS.decode(httpz.log_of(entry))
        assert isinstance(content, KeyRequest), revision
        found.append((content, entry))
    return found


@pytest.mark.parametrize(("content", "entry"), replies())
def test_calldata_of_the_five_replies(content: KeyRequest, entry: dict[str, Any]) -> None:
    signer = parse_address(httpz.node(1)["signer"])
    found = read_answer(content, from_hex(entry["core_answer"]["protobuf"]), signer)
    assert found == Answer(from_hex(entry["reply"]["calldata"]), signer)
    assert len(found.calldata) == 4 + 64


@pytest.mark.parametrize(
    ("name", "kind"), [("preprocess_keygen_echo", HttpzPrepKeygen), ("keygen_echo", HttpzKeygen)]
)
def test_all_nodes_of_a_threshold_set_send_the_same(name: str, kind: type) -> None:
    entry = httpz.load()["bytes32"]["threshold_1"][name]
    content = EVENTS.decode(httpz.read_log(entry["request"]["log"]))
    assert isinstance(content, kind)
    assert isinstance(content, KeyRequest)
    reply = KEY_MANAGER.function("keygenResponse" if kind is HttpzKeygen else "preprocessKeygenResponse")
    assert {one["calldata"] for one in entry["replies"]} == {
        "0x" + reply.encode(content.id, content.id).hex()
    }


def signed(name: str, key: PrivateKey = KEY) -> SignedPubDataHandle:
    signature = key.sign(object_digest(DOMAIN, name, bytes.fromhex(HANDLE)))
    return SignedPubDataHandle(key_handle=HANDLE, external_signature=signature)


def keygen_answer(**objects: SignedPubDataHandle) -> bytes:
    return bytes(KeyGenResult(request_id=THREE, key_results=objects))


def test_an_answer_without_signatures_is_taken() -> None:
    """A Core without a usable domain signs nothing, and KeyManager asks for nothing."""
    unsigned = keygen_answer(PublicKey=SignedPubDataHandle(key_handle=HANDLE))
    assert read_answer(HttpzKeygen(3, b""), unsigned, KEY.address).signer == KEY.address
    assert read_answer(HttpzCrsgen(3, b""), bytes(CrsGenResult(request_id=THREE)), KEY.address)


def test_an_object_that_somebody_else_signed_shows() -> None:
    mixed = keygen_answer(PublicKey=signed("PublicKey"), ServerKey=signed("ServerKey", STRANGER))
    assert read_answer(HttpzKeygen(3, b""), mixed, KEY.address).signer == STRANGER.address


def test_a_signature_for_another_object_shows() -> None:
    answer = bytes(CrsGenResult(request_id=THREE, crs_results=signed("ServerKey")))
    assert read_answer(HttpzCrsgen(3, b""), answer, KEY.address).signer != KEY.address


def test_what_has_no_struct_is_not_looked_at() -> None:
    strange = SignedPubDataHandle(key_handle="x", external_signature=b"x")
    assert read_answer(HttpzKeygen(3, b""), keygen_answer(DecompressionKey=strange), KEY.address)
    assert read_answer(Kskgen(3, 1, 2, b""), keygen_answer(PublicKey=strange), None).signer is None


@pytest.mark.parametrize(
    ("content", "reply", "reason"),
    [
        (HttpzKeygen(4, b""), keygen_answer(), "names another request"),
        (Kskgen(4, 1, 2, b""), keygen_answer(), "names another request"),
        (HttpzCrsgen(3, b""), b"", "names another request"),
        (HttpzPrepKeygen(3, b""), b"\xff", "no KeyGenPreprocResult"),
        (HttpzKeygen(3, b""), b"\xff", "no KeyGenResult"),
        (
            HttpzKeygen(3, b""),
            keygen_answer(PublicKey=SignedPubDataHandle(key_handle="ab", external_signature=bytes(65))),
            "2 digits",
        ),
        (
            HttpzKeygen(3, b""),
            keygen_answer(PublicKey=SignedPubDataHandle(key_handle="zz" * 32, external_signature=bytes(65))),
            "not hexadecimal",
        ),
        (
            HttpzKeygen(3, b""),
            keygen_answer(PublicKey=SignedPubDataHandle(key_handle=HANDLE, external_signature=bytes(64))),
            "64 bytes, not 65",
        ),
    ],
)
def test_answers_that_no_honest_core_gives(content: KeyRequest, reply: bytes, reason: str) -> None:
    with pytest.raises(Broken, match=reason):
        read_answer(content, reply, KEY.address)
