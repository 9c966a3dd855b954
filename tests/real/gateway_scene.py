"""Requests on a Gateway chain of either kind, and the replies of one node to them, right or wrong. Knows no connector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import attrs

from kmsconn.chain.port import RpcError
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, make_ciphertext
from kmsconn.emulator.contracts.gateway_config import Committee, KmsNode, Material
from kmsconn.emulator.contracts.request_calls import Asking, direct_request, public_request
from kmsconn.emulator.dependencies import HOST_ID, key_for
from kmsconn.emulator.fhevm_dependencies import CONTEXT
from kmsconn.emulator.signcryption import UserKey
from kmsconn.emulator.traffic import APP, KEY_ID
from kmsconn.ethereum.hexes import from_quantity, to_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.decryptions import public_digest
from kmsconn.protocols.fhevm.user_decryption import user_digest
from tests.real.gateways import Gateway, domain, open_anvil_gateway, open_emulated_gateway

Form = Literal["publicDecryptionResponse", "userDecryptionResponse"]
FORMS: tuple[Form, ...] = ("publicDecryptionResponse", "userDecryptionResponse")
RESULT = bytes(31) + b"\x07" + bytes(31) + b"\x01"
OTHER_CONTEXT = make_id(CONTEXT_TAG, 2)
UNKNOWN_CONTEXT = make_id(CONTEXT_TAG, 9)
USER_KEY = UserKey.from_seed(bytes(64))


def ciphertexts() -> list[EmulatedCiphertext]:
    """Return the two that every request here asks for."""
    return [
        make_ciphertext("7", 7, 2, chain_id=HOST_ID),
        make_ciphertext("yes", 1, 0, chain_id=HOST_ID),
    ]


HANDLES = [one.handle for one in ciphertexts()]


def member(name: str) -> KmsNode:
    """Return the node with this name in the committee."""
    return KmsNode(key_for(f"sender of {name}").address, key_for(f"signer of {name}").address)


COMMITTEE = Committee((member("us"), member("them")))


@attrs.define(eq=False)
class Scene:
    """A Gateway with two contexts, one request of each kind, and ``us``, a node of both contexts."""

    gateway: Gateway
    ids: dict[Form, int]
    start: int

    def reply(
        self,
        form: Form,
        *,
        identifier: int | None = None,
        extra_data: bytes = b"",
        signer: str = "signer of us",
        signature: bytes | None = None,
    ) -> bytes:
        """Return the calldata of a reply; ``signature`` in place of one that ``signer`` makes."""
        digest = self.digest(form, extra_data)
        signed = key_for(signer).sign(digest) if signature is None else signature
        chosen = self.ids[form] if identifier is None else identifier
        return DECRYPTION.function(form).encode(chosen, RESULT, signed, extra_data)

    def digest(self, form: Form, extra_data: bytes = b"") -> bytes:
        """Return what a node signs for the answer."""
        if form == "publicDecryptionResponse":
            return public_digest(domain(self.gateway), HANDLES, RESULT, extra_data)
        return user_digest(domain(self.gateway), USER_KEY.enc_key, HANDLES, RESULT, extra_data)

    async def refusals(self, calldata: bytes, sender: str = "sender of us") -> set[bytes | None]:
        """Return the revert data of a call and of an estimate; one value when both say the same."""
        return {await self.refusal(method, calldata, sender) for method in ("eth_call", "eth_estimateGas")}

    async def refusal(self, method: str, calldata: bytes, sender: str) -> bytes | None:
        """Return the data with which a call reverts. Raises AssertionError when it does not."""
        try:
            result = await self.gateway.rpc.call(method, self.message(calldata, sender))
        except RpcError as error:
            return error.data
        raise AssertionError(f"{method} was not refused: {result}")

    def message(self, calldata: bytes, sender: str = "sender of us") -> dict[str, Any]:
        """Return a call to Decryption as JSON."""
        return {
            "from": to_hex(key_for(sender).address),
            "to": to_hex(self.gateway.decryption),
            "data": to_hex(calldata),
        }

    async def send(self, calldata: bytes, sender: str = "sender of us") -> dict[str, Any]:
        """Send a transaction to Decryption, which must succeed; return its receipt."""
        account = await self.gateway.account(sender)
        (receipt,) = await account.do((self.gateway.decryption, calldata))
        return receipt

    def asking(self, **changes: Any) -> Asking:
        """Return what a user's request has in common with others."""
        asking = Asking(self.gateway.decryption, USER_KEY.enc_key, self.start, (APP,))
        return attrs.evolve(asking, **changes)


@asynccontextmanager
async def open_scene(peer: str, anvil: Path | None, folder: Path) -> AsyncIterator[Scene]:
    """Set the scene on ``emulated`` or ``anvil``."""
    opened = open_emulated_gateway() if peer == "emulated" else open_anvil_gateway(anvil or Path(), folder)
    async with opened as gateway:
        yield await _set(gateway)


async def _set(gateway: Gateway) -> Scene:
    await gateway.set_context(OTHER_CONTEXT, COMMITTEE)
    await gateway.set_context(CONTEXT, COMMITTEE)
    senders = (key_for("coprocessor sender 0").address,)
    await gateway.commit([Material(one.handle, KEY_ID, one.digest, senders) for one in ciphertexts()])
    latest = await gateway.rpc.call("eth_getBlockByNumber", "latest", False)
    scene = Scene(gateway, {}, from_quantity(latest["timestamp"]))
    user: PrivateKey = key_for("user")
    pairs = [(handle, APP) for handle in HANDLES]
    calls = (public_request(HANDLES), direct_request(scene.asking(), user, pairs))
    for form, calldata in zip(FORMS, calls, strict=True):
        receipt = await scene.send(calldata, "relayer")
        scene.ids[form] = int(receipt["logs"][0]["topics"][1], 16)
    return scene
