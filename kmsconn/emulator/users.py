"""What users of every generation have in common: ciphertexts are made and published, requests are prepared and sent.

Which forms of requests there are, and what must be in its place for each, a generation's own traffic says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, ClassVar, Generic, Self, TypeVar

import attrs

from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, StoredCiphertext, make_ciphertext
from kmsconn.emulator.dependencies import HOST_ID, EmulatedDependencies, key_for

N_co = TypeVar("N_co", bound=EmulatedDependencies, covariant=True)


@attrs.frozen
class Prepared:
    """A request that needs nothing but to be sent: its form, its calldata, and the ciphertexts that lie in the buckets for it."""

    form: str
    calldata: bytes
    ciphertexts: tuple[EmulatedCiphertext, ...]


@attrs.define(eq=False)
class Users(ABC, Generic[N_co]):
    """The users of one set of dependencies. ``size`` is the bytes of each ciphertext; ``granted`` turns the rights off.

    ``random`` draws forms, types and values: the same seed makes the same requests.
    """

    among: ClassVar[Any]
    """The class of their dependencies."""
    names: ClassVar[tuple[str, ...]]
    """The forms of requests."""
    form: ClassVar[ObjectForm]
    """Under which keys objects lie in the buckets."""
    bits: ClassVar[Mapping[int, int]]
    """The types of which values are made, with the bits of these."""

    dependencies: N_co
    random: Random = attrs.field(factory=lambda: Random(0))
    size: int = 64
    granted: bool = True
    host_chain: int = HOST_ID
    """The chain that handles name."""
    stock: tuple[StoredCiphertext, ...] = ()
    """The ciphertexts that are drawn from; if there are none, each is made by itself."""
    on_send: Callable[[bytes, Prepared], None] = lambda *_: None
    """Is told each request with its transaction when it is queued."""
    _made: int = 0
    _latest: tuple[EmulatedCiphertext, ...] = ()
    _remembered: dict[bytes, tuple[EmulatedCiphertext, ...]] = attrs.field(factory=dict)

    @classmethod
    def settle(cls, clock: Callable[[], float], random: Random, *, size: int = 64, **options: Any) -> Self:
        """Make users and their dependencies, these with the options of ``FhevmDependencies.make``."""
        return cls(cls.among.make(clock, **options), random, size=size)

    @abstractmethod
    def make(self, form: str) -> bytes:
        """Return the calldata of a form, with everything that belongs to it in its place. Raises KeyError."""

    @abstractmethod
    def publish(self, one: EmulatedCiphertext) -> None:
        """Put a ciphertext into the coprocessors' buckets and register it in the contracts."""

    @property
    def forms(self) -> dict[str, Callable[[], bytes]]:
        """Every form of request by name; each call queues one and returns the hash of its transaction."""
        return {form: partial(self._ask, form) for form in self.names}

    def prepare(self, form: str) -> Prepared:
        """Make everything for a request of a form: ciphertexts in the buckets, rights, calldata. Nothing is sent."""
        calldata = self.make(form)
        return Prepared(form, calldata, self._latest)

    def send(self, prepared: Prepared) -> bytes:
        """Queue a request and return the hash of its transaction."""
        gateway, contract = self.dependencies.gateway, self.dependencies.decryption.address
        sent = gateway.actors.transact(key_for("relayer").address, contract, prepared.calldata)
        self._remembered[sent] = prepared.ciphertexts
        self.on_send(sent, prepared)
        return sent

    def any(self) -> bytes:
        """Queue a request of a form drawn by chance."""
        return self._ask(self.random.choice(self.names))

    def public(self) -> bytes:
        """Ask for values to be revealed to everybody."""
        return self._ask("public")

    @property
    def remembered(self) -> tuple[bytes, ...]:
        """The transactions whose ciphertexts are still kept."""
        return tuple(self._remembered)

    def forget(self, transaction_hash: bytes) -> None:
        """Drop the ciphertexts of one request from everywhere: nobody will fetch or decrypt them again. Repeating: no effect."""
        self._drop(self._remembered.pop(transaction_hash, ()))

    def drop(self, prepared: Prepared) -> None:
        """Drop the ciphertexts of a request that was not sent as a transaction. Repeating: no effect."""
        self._drop(prepared.ciphertexts)

    def _drop(self, ciphertexts: tuple[EmulatedCiphertext, ...]) -> None:
        for one in ciphertexts:
            if not self.stock:
                self.dependencies.plaintexts.pop(one.body, None)
            for bucket in self.dependencies.buckets:
                bucket.bucket.objects.pop(self.form.key(one), None)

    def ciphertexts(self) -> list[EmulatedCiphertext]:
        """Make and publish the ciphertexts of one request."""
        made = [self._ciphertext() for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
        for one in made:
            self.dependencies.plaintexts[one.body] = one.value
            self.publish(one)
        self._latest = tuple(made)
        return made

    def _ask(self, form: str) -> bytes:
        return self.send(self.prepare(form))

    def _ciphertext(self) -> EmulatedCiphertext:
        self._made += 1
        if self.stock:
            return self.random.choice(self.stock).under(f"{self._made}", self.host_chain)
        fhe_type = self.random.choice(sorted(self.bits))
        value = self.random.getrandbits(self.bits[fhe_type])
        return make_ciphertext(f"{self._made}", value, fhe_type, chain_id=self.host_chain, size=self.size)
