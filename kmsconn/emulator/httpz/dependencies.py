"""All dependencies of one connector of the first generation in one place (a gateway with three contracts, a Core, buckets), and its users.

What users do: ciphertexts committed, rights given, decryptions requested, of every form there is. Source: httpz-rc7.md, 1.2, 3.4 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from kmsconn.config.description import AttestationMode
from kmsconn.config.parties import Contract, S3Fallback
from kmsconn.config.parties import Httpz as HttpzSettings
from kmsconn.config.settings import Settings
from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.ciphertexts import EmulatedCiphertext
from kmsconn.emulator.contracts.gateway_config import KmsNode
from kmsconn.emulator.core_faults import FaultyCore
from kmsconn.emulator.dependencies import (
    GATEWAY_ID,
    HOST_ID,
    EmulatedDependencies,
    address_for,
    coprocessor_senders,
    coprocessors_of,
    degree_of,
    key_for,
    new_clusters,
    secret_for,
    sender_of,
    signer_of,
)
from kmsconn.emulator.httpz import signcryption as box
from kmsconn.emulator.httpz.contracts import DecryptionManager, HttpzContract, KeyManager
from kmsconn.emulator.httpz.core import HTTPZ, FirstCore
from kmsconn.emulator.httpz.signcryption import pack_key
from kmsconn.emulator.pool import PoolKind
from kmsconn.emulator.users import Users
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import HTTPZ_RC7, CiphertextReference
from kmsconn.protocols.httpz_rc7.messages import SIZES

KEY_ID = int.from_bytes(keccak256(b"kmsconn emulator key of httpz"))
PARAMETERS = "TEST"
"""The FHE parameters that may be named in requests for keys."""


@attrs.define(eq=False, kw_only=True)
class HttpzDependencies(EmulatedDependencies):
    """The dependencies of httpz-rc7. Made by ``make``."""

    generation_events = HTTPZ

    httpz: HttpzContract
    decryption: DecryptionManager
    keys: KeyManager
    cores: list[FaultyCore[FirstCore]]
    others: list[FaultyCore[FirstCore]]

    @classmethod
    def make(
        cls,
        clock: Callable[[], float],
        *,
        block_time: float = 0.25,
        pool: PoolKind = "arbitrum",
        nodes: int = 1,
        shards: int = 1,
        members: int = 1,
        computing: float | Callable[[], float] = 0.0,
        seed: int = 0,
        revision: str = "rc9",
    ) -> HttpzDependencies:
        """Make dependencies as ``FhevmDependencies.make`` does, with the contracts of a ``revision``: main, rc7 or rc9.

        Where a node may fail, users' answers are counted by request (httpz-rc7.md, 13.16): with the real rule there is no end.
        """
        gateway = EmulatedChain(GATEWAY_ID, clock, block_time=block_time, pool=pool)
        httpz = HttpzContract(address_for("HTTPZ"), revision)
        plaintexts: dict[bytes, int] = {}
        degree = degree_of(members)

        def core(member: int) -> FaultyCore[FirstCore]:
            node = FirstCore(signer_of(member), plaintexts, party_id=member + 1, degree=degree)
            node.computing, node.numeric = computing, httpz.revision.numeric
            return FaultyCore(node)

        address = address_for("DecryptionManager")
        made = cls(
            gateway=gateway,
            clusters=new_clusters({"gateway": gateway}, nodes, seed),
            httpz=httpz,
            decryption=DecryptionManager(address, GATEWAY_ID, httpz, counts_shares=degree > 0),
            keys=KeyManager(address_for("KeyManager"), httpz),
            plaintexts=plaintexts,
            cores=[core(0) for _ in range(shards)],
            others=[core(member) for member in range(1, members)],
        )
        made._deploy(degree)
        return made

    @property
    def chains(self) -> tuple[EmulatedChain, ...]:
        """The gateway alone."""
        return (self.gateway,)

    def settings(self, journal: Path, member: int = 0, **changes: object) -> Settings:
        """Return the settings of the connector of a member; the first one's is the one that belongs here."""
        gateway = self.chain_settings("gateway", GATEWAY_ID)
        httpz = Contract(self.httpz.address, "HTTPZ")
        url, _, bucket = self.bucket_url(0).rpartition("/")  # it stands in where the chain names none
        settings = Settings.of(
            profile=HTTPZ_RC7,
            service_name="kms-connector",
            gateway=gateway,
            ethereum=gateway,
            host_chains=(),
            decryption_contract=Contract(self.decryption.address, "DecryptionManager"),
            gateway_config_contract=httpz,
            protocol_config_contract=httpz,
            kms_generation_contract=Contract(self.keys.address, "KeyManager"),
            **self.common_settings(journal, member),
            attestation=AttestationMode.OFF,
            httpz=HttpzSettings(s3=S3Fallback("us-east-1", bucket, url)),
        )
        return settings.but(**changes)

    def settled(self) -> None:
        """Tell HTTPZ where the buckets are."""
        self.gateway.evm.set_up(self.httpz.address, self.httpz.set_coprocessors, coprocessors_of(self))

    def _deploy(self, threshold: int) -> None:
        for contract in (self.httpz, self.decryption, self.keys):
            self.gateway.evm.deploy(contract)
        members = range(1 + len(self.others))
        nodes = [KmsNode(sender_of(member).address, signer_of(member).address) for member in members]
        self.gateway.evm.set_up(self.httpz.address, self.httpz.set_nodes, nodes, threshold)
        digest = keccak256(PARAMETERS.encode())
        self.gateway.evm.set_up(self.keys.address, self.keys.name_parameters, PARAMETERS, digest)


APP = address_for("application")
SECRET = secret_for("box of the user")
"""With what the user opens shares."""
_DAYS = 10
_UNSIGNED = bytes(65)  # the emulated contract looks at no signature of users
_NARROW = {0: 1, 1: 4}  # the types that are narrower than a byte


@attrs.define(eq=False)
class FirstTraffic(Users[HttpzDependencies]):
    """The users of a set of dependencies of httpz-rc7. Rights are the contract's to know: without them a request is refused there."""

    among = HttpzDependencies
    names = ("public", "user", "delegated")
    form = ObjectForm.DIGEST
    bits = {kind: _NARROW.get(kind, 8 * size) for kind, size in SIZES.items()}  # noqa: RUF012 - see Users.bits

    def make(self, form: str) -> bytes:
        """Return the calldata of a form, with everything that belongs to it in its place."""
        delegates = {"user": None, "delegated": key_for("delegate").address}
        return self._public() if form == "public" else self._user(delegates[form])

    def publish(self, one: EmulatedCiphertext) -> None:
        """Put a ciphertext into the buckets and commit it."""
        for bucket in self.dependencies.buckets:
            bucket.bucket.put(self.form.key(one), one.body)
        senders = coprocessor_senders(self.dependencies)
        material = CiphertextReference(one.handle, KEY_ID, one.digest, senders)
        manager = self.dependencies.decryption
        self.dependencies.gateway.evm.set_up(manager.address, manager.commit, material=material)

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
        manager, set_up = self.dependencies.decryption, self.dependencies.gateway.evm.set_up
        for handle in handles if self.granted else ():
            set_up(manager.address, manager.allow, handle=handle, account=account)
