"""What users do on anvil: ciphertexts made and committed, rights given, decryptions requested in all six forms. Judges nothing."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import attrs

from kmsconn.ciphertexts.attestation import StoredFormat
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, make_ciphertext
from kmsconn.emulator.contracts.acl import EVERY_CONTRACT, FOR_EVER
from kmsconn.emulator.contracts.gateway_config import Material
from kmsconn.emulator.contracts.request_calls import Asking, request_of
from kmsconn.emulator.dependencies import HOST_ID, key_for
from kmsconn.emulator.fhevm_dependencies import APP, KEY_ID
from kmsconn.emulator.signcryption import UserKey, bits_of
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity
from kmsconn.ethereum.ids import PLAINTEXT_BITS
from tests.real.anvil import contracts
from tests.real.anvil.account import Account, Wish
from tests.real.anvil.world import World


@attrs.frozen
class Plan:
    """A request that can be made: everything that it needs is there. ``client`` gets the shares."""

    form: str
    ciphertexts: tuple[EmulatedCiphertext, ...]
    client: Address | None
    rights: list[Wish] = attrs.field(repr=False)
    calldata: bytes = attrs.field(repr=False)
    extra_data: bytes


@attrs.frozen
class Asked:
    """One request on the chain."""

    plan: Plan
    receipt: dict[str, Any] = attrs.field(repr=False)

    @property
    def id(self) -> int:
        """The id that the contract gave."""
        return int(self.receipt["logs"][0]["topics"][1], 16)


@attrs.define(eq=False)
class Users:
    """The users of one world; the same seed makes the same requests."""

    world: World
    random: Random = attrs.field(factory=lambda: Random(0))
    extra_data: Sequence[bytes] = (b"",)
    """The forms of extraData to choose from."""
    user_key: UserKey = attrs.field(factory=lambda: UserKey.from_seed(bytes(64)))
    _made: int = 0

    async def ask(self, *forms: str) -> list[Asked]:
        """Make requests of these forms; return them once they are in blocks."""
        return await self.request(await self.prepare(*forms))

    async def prepare(self, *forms: str, rights: bool = True) -> list[Plan]:
        """Make everything that requests of these forms need: ciphertexts, commitments, and rights unless they are denied."""
        world = self.world
        start = await world.gateway.rpc.call("eth_getBlockByNumber", "latest", False)
        plans = [self._plan(form, from_quantity(start["timestamp"])) for form in forms]
        materials = [self._publish(one) for plan in plans for one in plan.ciphertexts]
        if rights:
            await world.host.owner.do(*(wish for plan in plans for wish in plan.rights))
        await world.gateway.owner.do((world.at.decryption, contracts.commit(materials)))
        return plans

    async def request(self, plans: Sequence[Plan]) -> list[Asked]:
        """Make prepared requests, in this order, perhaps not for the first time; return them once they are in blocks."""
        relayer = Account(self.world.gateway.rpc, key_for("relayer"))
        receipts = await relayer.do(*((self.world.at.decryption, plan.calldata) for plan in plans))
        return [Asked(plan, found) for plan, found in zip(plans, receipts, strict=True)]

    def _plan(self, form: str, start: int) -> Plan:
        made = tuple(self._ciphertext() for _ in range(self.random.choice((1, 1, 2, 3))))
        asking = Asking(
            self.world.at.decryption,
            self.user_key.enc_key,
            start,
            (APP,),
            extra_data=self.random.choice(self.extra_data),
        )
        formed = request_of(form, [one.handle for one in made], asking, self.world.at.wallet, key_for)
        owner, client = formed.owner, formed.client
        rights = self._public_rights(made) if client is None else self._rights(made, owner)
        if client not in {None, owner}:
            rights.append(self._acl("setDelegation", owner, client, EVERY_CONTRACT, FOR_EVER))
        return Plan(form, made, client, rights, formed.calldata, asking.extra_data)

    def _ciphertext(self) -> EmulatedCiphertext:
        self._made += 1
        fhe_type = self.random.choice(sorted(PLAINTEXT_BITS))
        value = self.random.getrandbits(1 if fhe_type == 0 else bits_of(fhe_type))
        return make_ciphertext(f"{self._made}", value, fhe_type, chain_id=HOST_ID, size=1024)

    def _publish(self, one: EmulatedCiphertext) -> Material:
        self.world.plaintexts[one.body] = one.value
        for index, bucket in enumerate(self.world.buckets):
            signer = key_for(f"coprocessor signer {index}")
            bucket.publish(one, signer=signer, key_id=KEY_ID, stored=StoredFormat.COMPRESSED_ON_CPU)
        senders = (key_for(f"coprocessor sender {n}").address for n in range(len(self.world.buckets)))
        return Material(one.handle, KEY_ID, one.digest, tuple(senders))

    def _public_rights(self, made: Sequence[EmulatedCiphertext]) -> list[Wish]:
        return [self._acl("setDecryptable", tuple(one.handle for one in made), True)]

    def _rights(self, made: Sequence[EmulatedCiphertext], owner: Address) -> list[Wish]:
        return [self._acl("setAllowed", one.handle, who, True) for one in made for who in (owner, APP)]

    def _acl(self, knob: str, *values: Any) -> Wish:
        return self.world.at.acl, contracts.turn("ACL", knob, *values)
