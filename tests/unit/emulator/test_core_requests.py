"""What a Core accepts as a request (kms-core-grpc.md, 4 and 6)."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import Eip712DomainMsg, RequestId, TypedCiphertext
from kmsconn.emulator.core_requests import (
    Invalid,
    read_id,
    read_public,
    read_user,
)
from kmsconn.ethereum.addresses import checksum
from tests.unit.emulator.core_worlds import (
    CLIENT,
    DOMAIN,
    ONE,
    PLAINTEXTS,
    TWO,
    USER_KEY,
    domain_message,
    name,
    public_id,
    public_request,
    user_request,
)

CONTRACT = checksum(DOMAIN.verifying_contract)


def domain(**members: Any) -> Eip712DomainMsg:
    message = domain_message()
    for key, value in members.items():
        setattr(message, key, value)
    return message


def long_handle() -> TypedCiphertext:
    return TypedCiphertext(ciphertext=ONE.body, fhe_type=5, external_handle=bytes(33))


def test_a_request_is_taken_apart() -> None:
    job = read_public(bytes(public_request(extra_data=b"\1" + bytes(32))), PLAINTEXTS)
    assert (job.request_id, job.domain, job.extra_data) == (public_id(1), DOMAIN, b"\1" + bytes(32))
    assert [(item.handle, item.fhe_type, item.value) for item in job.items] == [
        (ONE.handle, 5, 123_456_789),
        (TWO.handle, 0, 1),
    ]


def test_context_and_epoch_are_read_when_named_and_short_handles_left_padded() -> None:
    message = public_request(context_id=name(b"\7" * 32), epoch_id=name(b"\x08" * 32))
    message.ciphertexts = [TypedCiphertext(ciphertext=ONE.body, fhe_type=5, external_handle=b"\xaa")]
    job = read_public(bytes(message), PLAINTEXTS)
    assert (job.context_id, job.epoch_id) == (b"\7" * 32, b"\x08" * 32)
    assert job.handles == [bytes(31) + b"\xaa"]


@pytest.mark.parametrize("text", ["01" * 32, "0x" + "01" * 32, f"  {'01' * 32}\n"])
def test_ids_are_read_leniently(text: str) -> None:
    assert read_id(RequestId(request_id=text)) == b"\1" * 32


@pytest.mark.parametrize("text", ["", "0x", "01" * 31, "01" * 33, "zz" * 32, "00" * 32, "1" * 63])
def test_other_ids_are_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        read_id(RequestId(request_id=text))


PUBLIC_FAULTS: list[dict[str, Any]] = [
    {"request_id": None},
    {"key_id": None},
    {"key_id": RequestId(request_id="")},
    {"ciphertexts": []},
    {"domain": None},
    {"domain": domain(chain_id=b"\1" + bytes(32))},
    {"domain": domain(verifying_contract=CONTRACT.lower())},
    {"domain": domain(verifying_contract=CONTRACT[2:])},
    {"domain": domain(verifying_contract="")},
    {"domain": domain(salt=b"")},
    {"context_id": RequestId(request_id="00" * 32)},
    {"epoch_id": RequestId(request_id="08")},
]
USER_FAULTS: list[dict[str, Any]] = [
    {"typed_ciphertexts": []},
    {"typed_ciphertexts": [long_handle()]},
    {"client_address": checksum(CLIENT).lower()},
    {"client_address": ""},
    {"client_address": CONTRACT},
    {"enc_key": b""},
    {"enc_key": USER_KEY.enc_key[:-1]},
    {"domain": None},
]


@pytest.mark.parametrize(
    ("make", "read", "members"),
    [
        *((public_request, read_public, members) for members in PUBLIC_FAULTS),
        *((user_request, read_user, members) for members in USER_FAULTS),
    ],
)
def test_a_request_with_a_fault_is_invalid(make: Any, read: Any, members: dict[str, Any]) -> None:
    message = make()
    for key, value in members.items():
        setattr(message, key, value)
    with pytest.raises(Invalid):
        read(bytes(message), PLAINTEXTS)
