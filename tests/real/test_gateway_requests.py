"""Which requests the Gateway takes (fhevm-0.14.md, 1.6): of handles and extraData the emulator and anvil refuse the same.

What users sign, for whom and for how long, only the real contract looks at; the emulator's users ask as it wants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmsconn.emulator.ciphertexts import make_handle
from kmsconn.emulator.contracts import request_calls
from kmsconn.emulator.contracts.request_calls import (
    DIRECT_CALL,
    UNIFIED_CALL,
    delegated_request,
    public_request,
    sign_unified,
    unified_request,
)
from kmsconn.emulator.dependencies import HOST_ID, key_for
from kmsconn.emulator.fhevm_dependencies import APP
from kmsconn.ethereum.abi import hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from tests.real.gateways import HANDLES, UNKNOWN_CONTEXT, USER_KEY, Scene

USER, DELEGATE = key_for("user"), key_for("delegate")
OWNER = key_for("owner").address
CROWD = tuple(Address(bytes([n]) * 20) for n in range(1, 12))
DAY, YEAR = 86_400, 365


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
        asked,
        (begin, days),
        (HOST_ID, contracts),
        user,
        USER_KEY.enc_key,
        spoil(signature),
        extra_data,
    )


def delegated(scene: Scene, owner: Address = OWNER, **changes: Any) -> bytes:
    """Return a legacy request of a delegate."""
    asking = scene.asking(**changes)
    return delegated_request(asking, DELEGATE, owner, [(each, APP) for each in HANDLES])


def unified(
    scene: Scene, entries: Any = None, seconds: int = DAY, start: int | None = None, contracts: Any = ()
) -> bytes:
    """Return a unified request without a signature, which the Gateway does not look at."""
    asked = tuple((each, APP, OWNER) for each in HANDLES) if entries is None else entries
    validity = (scene.start if start is None else start, seconds)
    return DECRYPTION.function(UNIFIED_CALL).encode(
        asked, USER.address, USER_KEY.enc_key, contracts, validity, b"", b""
    )


CASES: dict[str, Callable[[Scene], bytes]] = {
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


@pytest.mark.parametrize("name", CASES)
async def test_a_wrong_request_is_refused(scene: Scene, name: str) -> None:
    refusals = await scene.refusals(CASES[name](scene), "relayer")
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
