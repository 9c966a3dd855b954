"""The watch over the release of the network: asked until there is an answer, and again after a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.app.network_release import AGAIN, INTERVAL, NetworkRelease
from kmsconn.checks.expiry import DecryptionExpiry
from kmsconn.errors import Unreachable
from kmsconn.ethereum.abi import Function
from kmsconn.ethereum.hexes import to_hex
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.port import Profile
from kmsconn.rpc.port import Call
from tests import vectors

PROFILE = Fhevm(vectors.vector_settings())
TEXT = Function.from_item({"name": "text", "inputs": ({"type": "string"},), "outputs": ()})


@attrs.define
class Gateway:
    """Says its version, or nothing at all."""

    version: str | None
    asked: list[float] = attrs.field(factory=list)
    chain_id: int = PROFILE.deployment.gateway

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        assert [call.params[0]["to"] for call in calls] == [
            to_hex(PROFILE.deployment.decryption.verifying_contract)
        ]
        self.asked.append(trio.current_time())
        if self.version is None:
            raise Unreachable("down")
        return [to_hex(TEXT.encode(self.version)[4:])]


async def watched(
    gateway: Gateway, seconds: float, expiry: DecryptionExpiry | None = None, profile: Profile = PROFILE
) -> DecryptionExpiry:
    """Watch for so long, and return what became known."""
    expiry = expiry or DecryptionExpiry()
    with trio.move_on_after(seconds):
        await NetworkRelease(profile, gateway, expiry).run()  # type: ignore[arg-type]
    return expiry


@pytest.mark.parametrize(
    ("version", "later"),
    [
        ("Decryption v0.6.0", False),
        ("Decryption v0.7.0", True),
        ("Decryption v0.10.0", True),
        ("Decryption v1.0.0", True),
        ("Decryption v0.7", False),
        ("Decryption v0.7.0-rc1", False),
        ("GatewayConfig v0.7.0", False),
    ],
)
async def test_the_network_is_later_from_decryption_0_7_0_on(
    version: str, later: bool, autojump_clock: Any
) -> None:
    assert (await watched(Gateway(version), 1)).later is later


async def test_it_is_asked_until_it_answers_and_seldom_afterwards(autojump_clock: Any) -> None:
    gateway, expiry = Gateway(None), DecryptionExpiry()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched, gateway, 2 * INTERVAL, expiry)
        await trio.sleep(3.5 * AGAIN)
        assert expiry == DecryptionExpiry()
        gateway.version = "Decryption v0.6.0"
        await trio.sleep(AGAIN)
        known = expiry.later
        assert (known, len(gateway.asked)) == (False, 5)
        gateway.version = "Decryption v0.7.0"
        await trio.sleep(INTERVAL)
        assert expiry.later
        gateway.version = None
    assert (expiry.later, len(gateway.asked)) == (True, 6)


async def test_nobody_asks_where_the_option_decides_or_the_generation_has_one_release(
    autojump_clock: Any,
) -> None:
    gateway = Gateway("Decryption v0.7.0")
    await watched(gateway, 5, DecryptionExpiry(60.0))
    await watched(gateway, 5, profile=HttpzRc7(vectors.vector_settings()))
    assert gateway.asked == []
