"""What a Core accepts as a request (kms-core-grpc.md, 4 and 6)."""

from __future__ import annotations

from typing import Any

import betterproto2
import pytest

from kmsconn._generated.fhevm.kms.v1 import Eip712DomainMsg, RequestId, TypedCiphertext
from kmsconn.emulator.core_requests import (
    DEFAULT_CONTEXT,
    DEFAULT_EPOCH,
    Invalid,
    User,
    read_id,
    read_public,
    read_user,
)
from kmsconn.errors import Undecodable
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


def test_context_and_epoch_have_defaults() -> None:
    job = read_public(bytes(public_request()), PLAINTEXTS)
    assert (job.context_id, job.epoch_id) == (DEFAULT_CONTEXT, DEFAULT_EPOCH)


def test_context_and_epoch_are_read_when_named() -> None:
    message = public_request(context_id=name(b"\7" * 32), epoch_id=name(b"\x08" * 32))
    job = read_public(bytes(message), PLAINTEXTS)
    assert (job.context_id, job.epoch_id) == (b"\7" * 32, b"\x08" * 32)


def test_an_unknown_body_has_no_value() -> None:
    assert [item.value for item in read_public(bytes(public_request()), {}).items] == [None, None]


def test_short_handles_are_signed_left_padded() -> None:
    message = public_request()
    message.ciphertexts = [TypedCiphertext(ciphertext=ONE.body, fhe_type=5, external_handle=b"\xaa")]
    assert read_public(bytes(message), PLAINTEXTS).handles == [bytes(31) + b"\xaa"]


def test_a_users_request_names_client_and_key() -> None:
    assert read_user(bytes(user_request()), PLAINTEXTS).user == User(CLIENT, USER_KEY.enc_key)


@pytest.mark.parametrize("text", ["01" * 32, "0x" + "01" * 32, f"  {'01' * 32}\n"])
def test_ids_are_read_leniently(text: str) -> None:
    assert read_id(RequestId(request_id=text)) == b"\1" * 32


def test_upper_case_ids_are_read() -> None:
    assert read_id(RequestId(request_id="AB" * 32)) == b"\xab" * 32


@pytest.mark.parametrize("text", ["", "0x", "01" * 31, "01" * 33, "zz" * 32, "00" * 32, "1" * 63])
def test_other_ids_are_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        read_id(RequestId(request_id=text))


def test_an_absent_id_is_invalid() -> None:
    with pytest.raises(Invalid):
        read_id(None)


@pytest.mark.parametrize(
    "members",
    [
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
    ],
)
def test_a_public_request_with_a_fault_is_invalid(members: dict[str, Any]) -> None:
    message = public_request()
    for key, value in members.items():
        setattr(message, key, value)
    with pytest.raises(Invalid):
        read_public(bytes(message), PLAINTEXTS)


@pytest.mark.parametrize(
    "members",
    [
        {"typed_ciphertexts": []},
        {"typed_ciphertexts": [long_handle()]},
        {"client_address": checksum(CLIENT).lower()},
        {"client_address": ""},
        {"client_address": CONTRACT},
        {"enc_key": b""},
        {"enc_key": USER_KEY.enc_key[:-1]},
        {"domain": None},
    ],
)
def test_a_users_request_with_a_fault_is_invalid(members: dict[str, Any]) -> None:
    message = user_request()
    for key, value in members.items():
        setattr(message, key, value)
    with pytest.raises(Invalid):
        read_user(bytes(message), PLAINTEXTS)


def test_long_handles_pass_in_public_requests() -> None:
    """The Core notices them only when it signs."""
    message = public_request()
    message.ciphertexts = [long_handle()]
    assert len(read_public(bytes(message), PLAINTEXTS).items[0].handle) == 33


def test_a_leading_zero_of_the_chain_id_is_harmless() -> None:
    message = public_request(domain=domain(chain_id=bytes(40) + b"\x05"))
    assert read_public(bytes(message), PLAINTEXTS).domain.chain_id == 5


def test_name_and_version_may_be_empty() -> None:
    assert read_public(bytes(public_request(domain=domain(name="", version=""))), {}).domain.name == ""


@pytest.mark.parametrize("message", [public_request(), user_request()])
def test_a_cut_message_is_undecodable(message: betterproto2.Message) -> None:
    with pytest.raises(Undecodable):
        read_public(bytes(message)[:-1], PLAINTEXTS)
