"""The examination of a connector's surroundings: every probe with what it needs of the others. Opens connections, changes nothing.

It works before the first start and beside a running connector: the journal is not opened for writing, no lock is taken, no port is
listened to, no transaction is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import attrs

from kmsconn.chain.asking import run_query_plan
from kmsconn.ciphertexts.sdk import open_sdk
from kmsconn.config.settings import Settings
from kmsconn.config.sources import GENERATIONS
from kmsconn.connector.contracts import PROFILES
from kmsconn.connector.wiring import open_buckets
from kmsconn.core.client import open_core
from kmsconn.errors import StartRefused
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.model.events import ignore
from kmsconn.model.requests import HTTPZ_RC7, Kind
from kmsconn.operate.doctor import buckets, chains, contracts, cores, machine
from kmsconn.operate.doctor.buckets import BucketAccess
from kmsconn.operate.doctor.chains import CheckedChain, open_chains
from kmsconn.operate.doctor.contracts import CheckedContract, recent_probe
from kmsconn.operate.doctor.cores import CheckedCore, HandOver, SignerProbe
from kmsconn.operate.doctor.machine import Machine
from kmsconn.operate.doctor.probing import Diagnosis, Discovery, Probe, fault, ok, run_probes
from kmsconn.protocols.profile import MaterialInUse, Profile, Subscription
from kmsconn.replies.wallet import Wallet, open_tx_sender
from kmsconn.requests.components import policy_of, sources_of
from kmsconn.transport.ports import Ports


@attrs.frozen
class _Subject:
    """What is examined: settings, everything that was opened for them, and the probes that others need."""

    settings: Settings
    ports: Ports
    machine: Machine
    profile: Profile
    chains: Mapping[int, CheckedChain]
    contracts: tuple[CheckedContract, ...]
    cores: tuple[CheckedCore, ...]
    access: BucketAccess

    @property
    def gateway(self) -> CheckedChain:
        """The chain of decryptions."""
        return self.chains[self.settings.chains.gateway.chain_id]

    @property
    def registries(self) -> Sequence[str]:
        """The kinds of the contracts that know nodes, in the order of the profile; the first one knows coprocessors too."""
        older = self.settings.protocol.profile == HTTPZ_RC7
        return ("HTTPZ",) if older else ("GatewayConfig", "ProtocolConfig")

    def contract(self, kind: str) -> CheckedContract:
        """Return a configured contract by its kind."""
        return next(one for one in self.contracts if one.configured.kind == kind)

    def subscription(self, kind: Kind) -> Subscription:
        """Return the contract that announces a kind of request, with all its events."""
        where = self.profile.operations[kind].contract
        return next(one for one in self.profile.subscriptions() if (one.chain_id, one.contract) == where)


async def examine(
    settings: Settings, ports: Ports, there: Machine, *, ask_core: bool = False
) -> list[Diagnosis]:
    """Examine what a connector with these settings would depend on, and return a line for each check.

    ``ask_core``: hand the newest request over to an endpoint of the Core that has no result to read; else nothing is changed anywhere.
    Raises StartRefused for settings that no client can be made of, such as unusable TLS files. Cancellation: at any time.
    """
    ports = attrs.evolve(ports, proxies=settings.proxies)
    lines: list[Diagnosis] = []
    async with _open_subject(settings, ports, there) as subject:
        lines += await run_probes(_probes(subject, ask_core=ask_core))
    own = GENERATIONS[settings.protocol.profile].table.in_own_words
    return [attrs.evolve(one, found=own(one.found), remedy=own(one.remedy)) for one in lines]


@asynccontextmanager
async def _open_subject(settings: Settings, ports: Ports, there: Machine) -> AsyncIterator[_Subject]:
    profile, core = PROFILES[settings.protocol.profile](settings), settings.core
    async with AsyncExitStack() as stack:
        entered, urls, policy = stack.enter_async_context, core.core_endpoints, policy_of(settings)
        opened = {one.chain.chain_id: one for one in await entered(open_chains(settings, ports))}
        client = await entered(open_core(urls, ports, core.core_tls, core.core_reply_budget))
        http = await entered(open_buckets(settings, ports, policy))
        sdk = None if profile.has_attestations else await entered(open_sdk(ports.offload, ports.proxies))
        contracts = tuple(CheckedContract(one, opened[one.chain_id]) for one in profile.contracts())
        limit = core.healthcheck_timeout
        cores = tuple(CheckedCore(client, index, url, limit) for index, url in enumerate(urls))
        access = BucketAccess(http, partial(sources_of, settings, http, sdk), policy, ports, settings)
        yield _Subject(settings, ports, there, profile, opened, contracts, cores, access)


def _probes(subject: _Subject, *, ask_core: bool) -> Sequence[Probe[Any]]:
    """Return all probes in the order in which their lines are shown."""
    settings, ports, profile, gateway = subject.settings, subject.ports, subject.profile, subject.gateway
    tx_sender, material = _wallet_probe(settings), _on_chain_material_probe(subject)
    registrations = _registration_probes(subject, tx_sender)
    decryption, width = subject.subscription(Kind.PUBLIC_DECRYPTION), settings.reading.get_logs_batch_size
    recent = recent_probe(profile, decryption, gateway, width, subject.contracts[0].right)
    registry = buckets.registry_probe(profile, gateway, subject.contract(subject.registries[0]).right)
    client, access = subject.cores[0].client, subject.access
    start = HandOver(profile, subject.chains, client, access, registry, tx_sender).of if ask_core else None
    signers = (SignerProbe(core, profile, recent, registrations[0], start) for core in subject.cores)
    answers = tuple(one.probe() for one in signers)
    reply = cores.reply_probe(profile, gateway, tx_sender, answers)
    return [
        tx_sender,
        machine.journal_probe(settings, subject.machine, ports, tx_sender),
        machine.monitoring_probe(settings, subject.machine, ports),
        *machine.certificate_probes(settings, ports),
        *_chain_probes(subject),
        *(contract.right for contract in subject.contracts),
        *(contracts.domain_probe(one) for one in subject.contracts if one.configured.domain is not None),
        *registrations,
        *_balance_probes(subject, tx_sender, reply),
        *(core.serves for core in subject.cores),
        material,
        *(cores.material_probe(core, material, recent) for core in subject.cores),
        *answers,
        recent,
        registry,
        buckets.buckets_probe(subject.access, registry, recent),
        reply,
    ]


def _wallet_probe(settings: Settings) -> Probe[Address]:
    async def look() -> Sequence[Diagnosis] | Discovery[Address]:
        async with AsyncExitStack() as stack:
            try:
                sender = await stack.enter_async_context(open_tx_sender(settings, ignore))
            except StartRefused as error:
                remedy = "check private_key or aws_kms, and the rights to use it"
                return [fault("tx sender", str(error), remedy)]
            address, kind = (sender.address if isinstance(sender, Wallet) else sender), ""
            if not settings.sends:
                kind = ", of a shadow" if settings.is_shadow else ", for which other processes send"
            return Discovery(address, [ok("tx sender", f"{checksum(address)}{kind}")])

    return Probe("tx sender", look, remedy="check private_key or aws_kms", limit=30.0)


def _chain_probes(subject: _Subject) -> Sequence[Probe[Any]]:
    several, reading = tuple(subject.chains.values()), subject.settings.reading
    starts = {
        "ethereum": (Kind.KEYGEN, "kms_operation_from_block_number"),
        "gateway": (Kind.PUBLIC_DECRYPTION, "decryption_from_block_number"),
    }

    def limits(chain: CheckedChain) -> Probe[None]:
        if (heard := starts.get(chain.name)) is None:
            return chains.limits_probe(chain, None, reading.get_logs_batch_size, None, "")
        contract, option = subject.subscription(heard[0]), heard[1]
        first: int | None = getattr(reading, option)
        return chains.limits_probe(chain, contract, reading.get_logs_batch_size, first, option)

    return [
        *(chain.usable for chain in several),
        *(chain.head for chain in several),
        chains.clock_probe(several, subject.ports.wall),
        *(limits(chain) for chain in several),
    ]


def _registration_probes(subject: _Subject, tx_sender: Probe[Address]) -> Sequence[Probe[Address]]:
    found, make = enumerate(map(subject.contract, subject.registries)), contracts.registration_probe
    return [make(subject.profile, place, one.chain, tx_sender, one.right) for place, one in found]


def _balance_probes(subject: _Subject, tx_sender: Probe[Address], reply: Probe[int]) -> Sequence[Probe[None]]:
    """Return the probes of the balances, for who sends; ``reply`` estimates one on the Gateway."""
    if not subject.settings.sends:
        return []
    gateway, ethereum = subject.gateway, subject.chains[subject.settings.chains.ethereum.chain_id]
    of_keys = contracts.balance_probe(ethereum, tx_sender, None, few=contracts.FEW_KEY_REPLIES)
    return [
        contracts.balance_probe(gateway, tx_sender, reply, few=contracts.FEW_REPLIES),
        *([] if ethereum is gateway else [of_keys]),
    ]


def _on_chain_material_probe(subject: _Subject) -> Probe[MaterialInUse]:
    checked, chain = "key material on chain", subject.chains[subject.profile.material()[0]]
    older = subject.settings.protocol.profile == HTTPZ_RC7
    kinds = ("KeyManager",) if older else ("KMSGeneration", "ProtocolConfig")

    async def look() -> Discovery[MaterialInUse]:
        found = await run_query_plan(chain.rpc, subject.profile.material()[1])
        return Discovery(found, [cores.describe_material(checked, found)])

    return Probe(checked, look, (chain.usable, *(subject.contract(kind).right for kind in kinds)))
