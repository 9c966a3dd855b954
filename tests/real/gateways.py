"""A Gateway chain twice, emulated and anvil with our Solidity, for one set of tests; requests on it and replies, right or wrong."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.chain.port import RpcError
from kmsconn.config.parties import Chain as ChainSettings
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, make_ciphertext
from kmsconn.emulator.contracts.acl import Mood, WalletContract
from kmsconn.emulator.contracts.decryption import DecryptionContract
from kmsconn.emulator.contracts.gateway_config import Committee, GatewayConfig, KmsNode, Material
from kmsconn.emulator.contracts.request_calls import Asking, legacy_request, public_request
from kmsconn.emulator.dependencies import GATEWAY_ID, HOST_ID, address_for, key_for
from kmsconn.emulator.fhevm_dependencies import APP, CONTEXT, KEY_ID
from kmsconn.emulator.network import serve_sockets
from kmsconn.emulator.rpc import Cluster, RpcNode
from kmsconn.emulator.signcryption import UserKey
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity, to_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.decryptions import public_digest
from kmsconn.protocols.fhevm.user_decryption import user_digest
from kmsconn.transport.http import open_http
from tests.real.anvil import contracts
from tests.real.anvil.account import Account
from tests.real.anvil.world import OWNER, Place, open_place, ports

EMULATED_BLOCKS = 0.02  # seconds
MOODS = tuple(Mood)
"""The moods of a wallet in the order of the Solidity enum."""


@attrs.define(eq=False)
class AnvilGateway:
    """The Gateway on anvil."""

    place: Place
    config: Address
    decryption: Address
    wallet: Address

    @property
    def rpc(self) -> Endpoint:
        """Our client to it."""
        return self.place.rpc

    async def account(self, name: str) -> Account:
        """Return an account of the emulator's key of this name; it can pay."""
        account = Account(self.rpc, key_for(name))
        await account.enrich()
        return account

    async def set_context(self, context_id: int, committee: Committee) -> None:
        """Register a context and make it the current one."""
        await self.place.owner.do((self.config, contracts.gateway_context(context_id, committee)))

    async def destroy_context(self, context_id: int) -> None:
        """Destroy a context."""
        await self._turn(self.config, "GatewayConfig", "destroyContext", context_id)

    async def pin(self, identifier: int, context_id: int) -> None:
        """Pin another context to a request."""
        await self._turn(self.decryption, "Decryption", "setPinned", identifier, context_id)

    async def pause(self) -> None:
        """Refuse requests."""
        await self._turn(self.decryption, "Decryption", "setPaused", True)

    async def commit(self, materials: Sequence[Material]) -> None:
        """Let the coprocessors have committed ciphertexts."""
        await self.place.owner.do((self.decryption, contracts.commit(materials)))

    async def set_mood(self, mood: Mood) -> None:
        """Change how the wallet answers."""
        await self._turn(self.wallet, "Wallet", "setMood", MOODS.index(mood))

    async def hold_blocks(self) -> None:
        """Make no more blocks, so that what is sent waits."""
        await self.rpc.call("evm_setAutomine", False)

    async def _turn(self, where: Address, name: str, knob: str, *values: Any) -> None:
        await self.place.owner.do((where, contracts.turn(name, knob, *values)))


@attrs.define(eq=False)
class EmulatedGateway:
    """The Gateway that we emulate, with a pool like geth's."""

    rpc: Endpoint
    chain: EmulatedChain
    contract: DecryptionContract
    config: GatewayConfig
    purse: WalletContract

    @property
    def decryption(self) -> Address:
        """Where Decryption is."""
        return self.contract.address

    @property
    def wallet(self) -> Address:
        """Where the wallet is."""
        return self.purse.address

    async def account(self, name: str) -> Account:
        """Return an account of the emulator's key of this name; everybody can pay."""
        await trio.lowlevel.checkpoint()
        return Account(self.rpc, key_for(name))

    async def set_context(self, context_id: int, committee: Committee) -> None:
        """Register a context and make it the current one."""
        await self._turn(self.config, lambda frame: self.config.set_context(frame, context_id, committee))

    async def destroy_context(self, context_id: int) -> None:
        """Destroy a context."""
        await self._turn(self.config, lambda frame: self.config.destroy_context(frame, context_id))

    async def pin(self, identifier: int, context_id: int) -> None:
        """Pin another context to a request."""
        await self._turn(self.contract, lambda frame: self.contract.pin(frame, identifier, context_id))

    async def pause(self) -> None:
        """Refuse requests."""
        await self._turn(self.contract, self.contract.pause)

    async def commit(self, materials: Sequence[Material]) -> None:
        """Let the coprocessors have committed ciphertexts."""
        for material in materials:
            await self._turn(self.contract, lambda frame, one=material: self.contract.commit(frame, one))

    async def set_mood(self, mood: Mood) -> None:
        """Change how the wallet answers."""
        await self._turn(self.purse, lambda frame: self.purse.set_mood(frame, mood))

    async def hold_blocks(self) -> None:
        """Make no more blocks, so that what is sent waits."""
        self.chain.stalled = True
        await trio.lowlevel.checkpoint()

    async def _turn(self, contract: Any, knob: Callable[..., None]) -> None:
        self.chain.actors.act(contract.address, knob)
        await self.chain.wait_change()


Gateway = AnvilGateway | EmulatedGateway
"""One chain with Decryption, GatewayConfig and a contract wallet of ``wallet owner``."""


def domain(gateway: Gateway) -> Domain:
    """Return the domain under which a Core signs for this Gateway."""
    return Domain("Decryption", "1", GATEWAY_ID, gateway.decryption)


@asynccontextmanager
async def open_anvil_gateway(binary: Path, folder: Path) -> AsyncIterator[AnvilGateway]:
    """Run it on anvil, with a block for each transaction."""
    owner = key_for(OWNER).address
    async with open_place(binary, GATEWAY_ID, folder) as place:
        (config,) = await place.owner.deploy(contracts.creation("GatewayConfig", owner))
        decryption, wallet = await place.owner.deploy(
            contracts.creation("Decryption", owner, config),
            contracts.creation("Wallet", owner, key_for("wallet owner").address),
        )
        host = contracts.turn("GatewayConfig", "setHostChain", HOST_ID, True)
        await place.owner.do((config, host))
        yield AnvilGateway(place, config, decryption, wallet)


@asynccontextmanager
async def open_emulated_gateway() -> AsyncIterator[EmulatedGateway]:
    """Run the emulated one on a socket."""
    chain = EmulatedChain(GATEWAY_ID, time.time, block_time=EMULATED_BLOCKS, pool="geth")
    config = GatewayConfig(address_for("GatewayConfig"))
    decryption = DecryptionContract(address_for("Decryption"), GATEWAY_ID, config)
    wallet = WalletContract(address_for("wallet"), key_for("wallet owner").address)
    for contract in (config, decryption, wallet):
        chain.evm.deploy(contract)
    chain.evm.set_up(decryption.address, decryption.initialize)
    chain.evm.set_up(config.address, config.set_host_chains, [HOST_ID])
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve_sockets, Cluster([RpcNode(chain)], seed=0).serve)
        nursery.start_soon(chain.run)
        async with (
            open_http(ports()) as http,
            open_endpoint(
                ChainSettings(GATEWAY_ID, (f"ws://127.0.0.1:{port}",)), "emulated", ports(), http
            ) as rpc,
        ):
            yield EmulatedGateway(rpc, chain, decryption, config, wallet)
        nursery.cancel_scope.cancel()


Form = Literal["publicDecryptionResponse", "userDecryptionResponse"]
FORMS: tuple[Form, ...] = ("publicDecryptionResponse", "userDecryptionResponse")
RESULT = bytes(31) + b"\x07" + bytes(31) + b"\x01"
OTHER_CONTEXT = make_id(CONTEXT_TAG, 2)
UNKNOWN_CONTEXT = make_id(CONTEXT_TAG, 9)
USER_KEY = UserKey.from_seed(bytes(64))


def ciphertexts() -> list[EmulatedCiphertext]:
    """Return the two that every request here asks for."""
    return [make_ciphertext("7", 7, 2, chain_id=HOST_ID), make_ciphertext("yes", 1, 0, chain_id=HOST_ID)]


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
    calls = (public_request(HANDLES), legacy_request(scene.asking(), user, pairs))
    for form, calldata in zip(FORMS, calls, strict=True):
        receipt = await scene.send(calldata, "relayer")
        scene.ids[form] = int(receipt["logs"][0]["topics"][1], 16)
    return scene
