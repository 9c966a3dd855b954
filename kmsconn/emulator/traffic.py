"""What users of fhevm do (ciphertexts committed, rights given, decryptions requested), and the users of each generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final

import attrs

from kmsconn.ciphertexts.attestation import StoredFormat
from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.ciphertexts import EmulatedCiphertext
from kmsconn.emulator.contracts.acl import WalletContract
from kmsconn.emulator.contracts.gateway_config import Material
from kmsconn.emulator.contracts.request_calls import (
    Asking,
    delegated_request,
    direct_request,
    public_request,
    sign_unified,
    unified_request,
)
from kmsconn.emulator.core_requests import DEFAULT_KEY
from kmsconn.emulator.dependencies import HOST_ID, EmulatedDependencies, address_for, key_for
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies
from kmsconn.emulator.httpz.dependencies import HttpzDependencies
from kmsconn.emulator.httpz.traffic import FirstTraffic
from kmsconn.emulator.plaintexts import bits_of
from kmsconn.emulator.signcryption import UserKey
from kmsconn.emulator.users import Users
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import PLAINTEXT_BITS
from kmsconn.model.requests import FHEVM, HTTPZ_RC7

KEY_ID = int.from_bytes(DEFAULT_KEY)
_EMULATED_FORMATS = (StoredFormat.COMPRESSED_ON_CPU, StoredFormat.UNCOMPRESSED_ON_CPU)
APP = address_for("application")


def naming(context_id: int, epoch_id: int) -> tuple[bytes, ...]:
    """Return the forms of extraData that name a context, or it and its epoch."""
    return b"\x01" + context_id.to_bytes(32), b"\x02" + context_id.to_bytes(32) + epoch_id.to_bytes(32)


EXTRA_DATA = (b"", b"\x00", *naming(CONTEXT, EPOCH))


@attrs.define(eq=False)
class Traffic(Users[FhevmDependencies]):
    """The users of a set of dependencies of fhevm."""

    form = ObjectForm.HANDLE
    bits = {kind: 1 if kind == 0 else bits_of(kind) for kind in PLAINTEXT_BITS}  # noqa: RUF012 - see Users.bits

    extra_data: Sequence[bytes] = EXTRA_DATA
    """What requests may say of context and epoch."""
    user_key: UserKey = attrs.field(factory=lambda: UserKey.from_seed(bytes(64)))

    def __attrs_post_init__(self) -> None:
        wallet = WalletContract(address_for("wallet"), key_for("wallet owner").address)
        self.dependencies.host.evm.deploy(wallet)

    @property
    def makers(self) -> dict[str, Callable[[], bytes]]:
        """What makes the calldata of each form, with everything that belongs to it in its place."""
        return {
            "public": self._public,
            "direct": self._direct,
            "delegated": self._delegated,
            "unified": self._own,
            "unified_delegated": self._anothers,
            "wallet": self._wallet,
        }

    def _public(self) -> bytes:
        ciphertexts = self.ciphertexts()
        acl = self.dependencies.acl
        for one in ciphertexts:
            self._host(partial(acl.allow_for_decryption, handle=one.handle, allowed=self.granted))
        return public_request([one.handle for one in ciphertexts], self._extra_data())

    def _direct(self) -> bytes:
        """Ask as a user for own values, in the legacy form."""
        user = key_for("user")
        pairs = [(one.handle, APP) for one in self.ciphertexts()]
        self._allow(pairs, user.address)
        return direct_request(self._asking(), user, pairs)

    def _delegated(self) -> bytes:
        """Ask as a delegate for another's values, in the legacy form."""
        owner, delegate = key_for("owner"), key_for("delegate")
        pairs = [(one.handle, APP) for one in self.ciphertexts()]
        self._allow(pairs, owner.address)
        self._delegate(owner.address, delegate.address)
        return delegated_request(self._asking(), delegate, owner.address, pairs)

    def _own(self) -> bytes:
        """Ask as a user for own values."""
        return self._unified(key_for("user").address, key_for("user").address, "user")

    def _anothers(self) -> bytes:
        """Ask as a user for another's values."""
        owner, delegate = key_for("owner").address, key_for("delegate").address
        self._delegate(owner, delegate)
        return self._unified(delegate, owner, "delegate")

    def _wallet(self) -> bytes:
        """Ask as a contract wallet for its own values (ERC-1271)."""
        wallet = address_for("wallet")
        return self._unified(wallet, wallet, "wallet owner")

    def _unified(self, user: Address, owner: Address, signing: str) -> bytes:
        entries = [(one.handle, APP, owner) for one in self.ciphertexts()]
        self._allow([(handle, APP) for handle, _, _ in entries], owner)
        asking = self._asking()
        signature = sign_unified(asking, key_for(signing), user, HOST_ID)
        return unified_request(asking, user, entries, signature)

    def publish(self, one: EmulatedCiphertext) -> None:
        """Put a ciphertext into the buckets, attested, and commit it."""
        dependencies = self.dependencies
        stored = one.stored or self.random.choice(_EMULATED_FORMATS)
        key_id = KEY_ID if one.key_id is None else one.key_id
        senders = []
        for index, bucket in enumerate(dependencies.buckets):
            bucket.bucket.publish(
                one, signer=key_for(f"coprocessor signer {index}"), key_id=key_id, stored=stored
            )
            senders.append(key_for(f"coprocessor sender {index}").address)
        material = Material(one.handle, key_id, one.digest, tuple(senders))
        decryption = dependencies.decryption
        dependencies.gateway.evm.set_up(decryption.address, lambda frame: decryption.commit(frame, material))

    def _allow(self, pairs: Sequence[tuple[bytes, Address]], account: Address) -> None:
        acl = self.dependencies.acl
        for handle, contract in pairs:
            self._host(partial(acl.allow, handle=handle, account=account, allowed=self.granted))
            self._host(partial(acl.allow, handle=handle, account=contract, allowed=self.granted))

    def _delegate(self, owner: Address, delegate: Address) -> None:
        self._host(partial(self.dependencies.acl.delegate, delegator=owner, delegate=delegate))

    def _host(self, action: Callable[..., None]) -> None:
        self.dependencies.host.evm.set_up(self.dependencies.acl.address, action)

    def _asking(self) -> Asking:
        return Asking(
            decryption=self.dependencies.decryption.address,
            public_key=self.user_key.enc_key,
            start=self.dependencies.gateway.head.timestamp,
            contracts=(APP,),
            extra_data=self._extra_data(),
        )

    def _extra_data(self) -> bytes:
        return self.random.choice(self.extra_data)


@attrs.frozen
class EmulatedGeneration:
    """One generation: the forms of its requests, its dependencies and its users."""

    forms: tuple[str, ...]
    dependencies: Any
    users: Callable[..., Users[EmulatedDependencies]]

    def settle(
        self, clock: Callable[[], float], random: Random, *, size: int = 64, **options: Any
    ) -> Users[EmulatedDependencies]:
        """Make users and their dependencies: ``size`` in bytes for each ciphertext, options of ``FhevmDependencies.make`` for the rest."""
        return self.users(self.dependencies.make(clock, **options), random, size=size)


GENERATIONS: Final[Mapping[str, EmulatedGeneration]] = {
    FHEVM: EmulatedGeneration(
        ("public", "direct", "delegated", "unified", "unified_delegated", "wallet"),
        FhevmDependencies,
        Traffic,
    ),
    HTTPZ_RC7: EmulatedGeneration(("public", "user", "delegated"), HttpzDependencies, FirstTraffic),
}
