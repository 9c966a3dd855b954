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
from kmsconn.emulator.contracts.request_calls import FORMS, Asking, request_of
from kmsconn.emulator.core_requests import DEFAULT_KEY
from kmsconn.emulator.dependencies import EmulatedDependencies, address_for, key_for
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies
from kmsconn.emulator.httpz.dependencies import HttpzDependencies
from kmsconn.emulator.httpz.traffic import FirstTraffic
from kmsconn.emulator.plaintexts import bits_of
from kmsconn.emulator.signcryption import UserKey
from kmsconn.emulator.users import Users
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

    names = FORMS
    form = ObjectForm.HANDLE
    bits = {kind: 1 if kind == 0 else bits_of(kind) for kind in PLAINTEXT_BITS}  # noqa: RUF012 - see Users.bits

    extra_data: Sequence[bytes] = EXTRA_DATA
    """What requests may say of context and epoch."""
    user_key: UserKey = attrs.field(factory=lambda: UserKey.from_seed(bytes(64)))

    def __attrs_post_init__(self) -> None:
        wallet = WalletContract(address_for("wallet"), key_for("wallet owner").address)
        self.dependencies.host.evm.deploy(wallet)

    def make(self, form: str) -> bytes:
        """Return the calldata of a form, with everything that belongs to it in its place."""
        handles = [one.handle for one in self.ciphertexts()]
        made = request_of(form, handles, self._asking(), address_for("wallet"), key_for)
        acl, granted = self.dependencies.acl, self.granted
        for handle in handles:
            if made.client is None:
                self._host(partial(acl.allow_for_decryption, handle=handle, allowed=granted))
                continue
            for account in (made.owner, APP):
                self._host(partial(acl.allow, handle=handle, account=account, allowed=granted))
        if made.client not in {None, made.owner}:
            self._host(partial(acl.delegate, delegator=made.owner, delegate=made.client))
        return made.calldata

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

    def _host(self, action: Callable[..., None]) -> None:
        self.dependencies.host.evm.set_up(self.dependencies.acl.address, action)

    def _asking(self) -> Asking:
        return Asking(
            decryption=self.dependencies.decryption.address,
            public_key=self.user_key.enc_key,
            start=self.dependencies.gateway.head.timestamp,
            contracts=(APP,),
            extra_data=self.random.choice(self.extra_data),
        )


@attrs.frozen
class EmulatedGeneration:
    """One generation: its dependencies and its users."""

    dependencies: Any
    users: type[Users[Any]]

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms of its requests."""
        return self.users.names

    def settle(
        self, clock: Callable[[], float], random: Random, *, size: int = 64, **options: Any
    ) -> Users[EmulatedDependencies]:
        """Make users and their dependencies: ``size`` in bytes for each ciphertext, options of ``FhevmDependencies.make`` for the rest."""
        return self.users(self.dependencies.make(clock, **options), random, size=size)


GENERATIONS: Final[Mapping[str, EmulatedGeneration]] = {
    FHEVM: EmulatedGeneration(FhevmDependencies, Traffic),
    HTTPZ_RC7: EmulatedGeneration(HttpzDependencies, FirstTraffic),
}
