"""What users of the first generation do: ciphertexts committed, rights given, decryptions requested, of every form there is.

Source: httpz-rc7.md, 1.2, 3.4 and 4.
"""

from __future__ import annotations

from functools import partial

import attrs

from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.ciphertexts import EmulatedCiphertext
from kmsconn.emulator.dependencies import HOST_ID, address_for, key_for, secret_for
from kmsconn.emulator.httpz import signcryption as box
from kmsconn.emulator.httpz.dependencies import KEY_ID, HttpzDependencies
from kmsconn.emulator.httpz.signcryption import pack_key
from kmsconn.emulator.users import Users
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.httpz_rc7.messages import SIZES

APP = address_for("application")
SECRET = secret_for("box of the user")
"""With what the user opens shares."""
_DAYS = 10
_UNSIGNED = bytes(65)  # the emulated contract looks at no signature of users
_NARROW = {0: 1, 1: 4}  # the types that are narrower than a byte


@attrs.define(eq=False)
class FirstTraffic(Users[HttpzDependencies]):
    """The users of a set of dependencies of httpz-rc7. Rights are the contract's to know: without them a request is refused there."""

    names = ("public", "user", "delegated")
    form = ObjectForm.DIGEST
    bits = {kind: _NARROW.get(kind, 8 * size) for kind, size in SIZES.items()}  # noqa: RUF012 - see Users.bits

    def make(self, form: str) -> bytes:
        """Return the calldata of a form, with everything that belongs to it in its place."""
        delegates = {"user": None, "delegated": key_for("delegate").address}
        return self._public() if form == "public" else self._user(delegates[form])

    def publish(self, one: EmulatedCiphertext) -> None:
        """Put a ciphertext into the buckets and commit it."""
        senders = []
        for index, bucket in enumerate(self.dependencies.buckets):
            bucket.bucket.put(self.form.key(one), one.body)
            senders.append(key_for(f"coprocessor sender {index}").address)
        material = CiphertextReference(one.handle, KEY_ID, one.digest, tuple(senders))
        manager = self.dependencies.decryption
        self.dependencies.gateway.evm.set_up(manager.address, partial(manager.commit, material=material))

    def _public(self) -> bytes:
        handles = [one.handle for one in self.ciphertexts()]
        self._allow(handles, None)
        numeric = self.dependencies.httpz.revision.numeric
        asked = [int.from_bytes(handle) if numeric else handle for handle in handles]
        return self.dependencies.httpz.revision.manager.function("publicDecryptionRequest").encode(asked)

    def _user(self, delegate: Address | None) -> bytes:
        user, revision = key_for("user").address, self.dependencies.httpz.revision
        handles = [one.handle for one in self.ciphertexts()]
        for account in (user, APP):
            self._allow(handles, account)
        pairs = [(int.from_bytes(handle) if revision.numeric else handle, APP) for handle in handles]
        asked = pairs, (self.dependencies.gateway.head.timestamp, _DAYS)
        where, rest = (HOST_ID, (APP,)), (pack_key(box.public_key(SECRET)), _UNSIGNED)
        if delegate is None:
            return revision.manager.function("userDecryptionRequest").encode(*asked, *where, user, *rest)
        function = revision.manager.function("delegatedUserDecryptionRequest")
        return function.encode(*asked, (user, delegate), *where, *rest)

    def _allow(self, handles: list[bytes], account: Address | None) -> None:
        manager = self.dependencies.decryption
        for handle in handles if self.granted else ():
            self.dependencies.gateway.evm.set_up(
                manager.address, partial(manager.allow, handle=handle, account=account)
            )
