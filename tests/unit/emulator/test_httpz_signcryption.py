"""Sealing and opening shares of the first generation (kms-core-grpc.md, 12.6)."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.emulator.httpz.signcryption import HttpzRandomness, open_share, pack_key, signcrypt, unpack_key
from kmsconn.emulator.plaintexts import value_of_share
from kmsconn.emulator.signcryption import NotOpened, verification_key
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols import bincode
from tests.vectors import httpz

SIGNER = PrivateKey(from_hex(httpz.node(1)["signer_private_key"]))
VK = verification_key(SIGNER.public_key)
LINK = b"\xdd" * 32
USER = parse_address(httpz.load()["keys"]["user"]["address"])
SECRET_KEY = from_hex(httpz.load()["keys"]["user_x25519"]["private_key"])
ENC_KEY = from_hex(httpz.load()["keys"]["user_x25519"]["enc_key"])
OPENED = [entry for _, entry in httpz.exchanges("client_library") if "ok" in entry["output"]]


def sealed(plaintext: bytes = b"\xe8\x03\0\0\0\0\0\0", seed: bytes = b"") -> bytes:
    return signcrypt(
        plaintext,
        5,
        link=LINK,
        client=USER,
        enc_key=ENC_KEY,
        key=SIGNER,
        randomness=HttpzRandomness.from_seed(seed),
    )


@pytest.mark.parametrize("entry", OPENED, ids=httpz.name_of)
def test_what_the_client_library_opened_opens_here_to_the_same_values(entry: dict[str, Any]) -> None:
    expected = [(kind, int(value, 16)) for kind, value in entry["output"]["ok"]]
    for response in entry["input"]["responses"]:
        payload = bincode.decode(bytes.fromhex(response["payload"]), packed=False)
        found = [
            open_share(SECRET_KEY, share.signcrypted, client=USER, vk=payload.verification_key)
            for share in payload.shares
        ]
        assert {one.link for one in found} == {payload.digest}
        read = value_of_share if payload.degree else little_endian
        assert [(one.fhe_type, read(one.plaintext)) for one in found] == expected


def little_endian(plaintext: bytes) -> int:
    return int.from_bytes(plaintext, "little")


def test_ours_is_as_long_as_the_one_that_the_client_library_opened() -> None:
    (entry,) = [one for one in OPENED if one["name"] == "one_u64"]
    image = bytes.fromhex(entry["input"]["responses"][0]["payload"])
    assert len(sealed()) == len(bincode.decode(image, packed=False).shares[0].signcrypted)


def test_a_share_opens_to_what_was_sealed() -> None:
    opened = open_share(SECRET_KEY, sealed(), client=USER, vk=VK)
    assert (opened.plaintext, opened.fhe_type, opened.link) == (b"\xe8\x03\0\0\0\0\0\0", 5, LINK)


def test_the_same_randomness_seals_to_the_same_bytes_and_other_to_others() -> None:
    assert sealed(seed=b"x") == sealed(seed=b"x") != sealed(seed=b"y")


def test_fresh_randomness_is_fresh() -> None:
    assert HttpzRandomness() != HttpzRandomness()


def test_another_user_cannot_open() -> None:
    with pytest.raises(NotOpened, match="another key"):
        open_share(bytes([8] * 32), sealed(), client=USER, vk=VK)


def test_it_does_not_open_for_another_client_address() -> None:
    with pytest.raises(NotOpened, match="another client"):
        open_share(SECRET_KEY, sealed(), client=Address(bytes(20)), vk=VK)


def test_it_does_not_open_as_another_nodes() -> None:
    stranger = verification_key(PrivateKey(bytes(31) + b"\x02").public_key)
    with pytest.raises(NotOpened, match="another node"):
        open_share(SECRET_KEY, sealed(), client=USER, vk=stranger)


@pytest.mark.parametrize("place", [0, 8, 30, -80, -60, -1])
def test_a_changed_byte_does_not_open(place: int) -> None:
    share = bytearray(sealed())
    share[place] ^= 1
    with pytest.raises(NotOpened):
        open_share(SECRET_KEY, bytes(share), client=USER, vk=VK)


@pytest.mark.parametrize("share", [b"", bytes(8), sealed()[:-1], sealed() + b"\0"])
def test_a_share_of_another_length_does_not_open(share: bytes) -> None:
    with pytest.raises(NotOpened, match="lengths"):
        open_share(SECRET_KEY, share, client=USER, vk=VK)


def test_a_packed_key_has_40_bytes_and_unpacks() -> None:
    assert len(ENC_KEY) == 40
    assert pack_key(unpack_key(ENC_KEY)) == ENC_KEY


@pytest.mark.parametrize("enc_key", [b"", ENC_KEY[8:], ENC_KEY[:-1], ENC_KEY + b"\0", b"\x21" + ENC_KEY[1:]])
def test_anything_else_is_no_key(enc_key: bytes) -> None:
    with pytest.raises(ValueError, match="X25519"):
        unpack_key(enc_key)
