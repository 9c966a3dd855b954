"""All dependencies of one connector of the first generation in one place: a gateway with three contracts, a Core, buckets.

Decides nothing of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from kmsconn.config.parties import Contract, S3Fallback
from kmsconn.config.parties import Httpz as HttpzSettings
from kmsconn.config.settings import Settings
from kmsconn.config.values import AttestationMode
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts.gateway_config import EmulatedCoprocessor, KmsNode
from kmsconn.emulator.core_faults import FaultyCore
from kmsconn.emulator.dependencies import (
    GATEWAY_ID,
    EmulatedDependencies,
    address_for,
    degree_of,
    key_for,
    new_clusters,
    sender_of,
    signer_of,
)
from kmsconn.emulator.httpz.core import HTTPZ, FirstCore
from kmsconn.emulator.httpz.decryption_manager import DecryptionManager
from kmsconn.emulator.httpz.key_manager import KeyManager
from kmsconn.emulator.httpz.registry import HttpzContract
from kmsconn.emulator.pool import PoolKind
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import HTTPZ_RC7

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
            core = FirstCore(
                signer_of(member),
                plaintexts,
                numeric=httpz.revision.numeric,
                party_id=member + 1,
                degree=degree,
                computing=computing,
            )
            return FaultyCore(core)

        made = cls(
            gateway=gateway,
            clusters=new_clusters({"gateway": gateway}, nodes, seed),
            httpz=httpz,
            decryption=DecryptionManager(
                address_for("DecryptionManager"), GATEWAY_ID, httpz, counts_shares=degree > 0
            ),
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
            httpz=HttpzSettings(s3=self._fallback()),
        )
        return settings.but(**changes)

    def settled(self) -> None:
        """Tell HTTPZ where the buckets are."""
        coprocessors = [
            EmulatedCoprocessor(
                key_for(f"coprocessor sender {index}").address,
                key_for(f"coprocessor signer {index}").address,
                self.told_url(index),
            )
            for index in range(len(self.buckets))
        ]
        self.gateway.evm.set_up(
            self.httpz.address, lambda frame: self.httpz.set_coprocessors(frame, coprocessors)
        )

    def _fallback(self) -> S3Fallback:
        """Return the bucket that stands in where the chain names none: the first."""
        url, _, bucket = self.bucket_url(0).rpartition("/")
        return S3Fallback("us-east-1", bucket, url)

    def _deploy(self, threshold: int) -> None:
        for contract in (self.httpz, self.decryption, self.keys):
            self.gateway.evm.deploy(contract)
        members = range(1 + len(self.others))
        nodes = [KmsNode(sender_of(member).address, signer_of(member).address) for member in members]
        self.gateway.evm.set_up(
            self.httpz.address, lambda frame: self.httpz.set_nodes(frame, nodes, threshold)
        )
        digest = keccak256(PARAMETERS.encode())
        self.gateway.evm.set_up(
            self.keys.address, lambda frame: self.keys.name_parameters(frame, PARAMETERS, digest)
        )
