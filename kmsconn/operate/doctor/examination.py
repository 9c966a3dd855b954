"""The examination of a connector's surroundings: every probe with what it needs of the others. Opens connections, changes nothing.

It works before the first start and beside a running connector: the journal is not opened for writing, no lock is taken, no port is
listened to, no transaction is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs

from kmsconn.chain.asking import run_query_plan
from kmsconn.ciphertexts.places import BucketPolicy, Substitute
from kmsconn.ciphertexts.sdk import open_sdk
from kmsconn.ciphertexts.sources import BothForms, ByPlace
from kmsconn.config.settings import Settings
from kmsconn.config.sources import GENERATIONS
from kmsconn.connector.wiring import PROFILES
from kmsconn.core.client import CoreClient, open_core
from kmsconn.errors import StartRefused
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.model.events import ignore
from kmsconn.model.requests import HTTPZ_RC7, Kind
from kmsconn.operate.doctor import account, buckets, chains, contracts, cores, machine, rehearsal
from kmsconn.operate.doctor.buckets import BucketAccess
from kmsconn.operate.doctor.chains import CheckedChain, open_chains
from kmsconn.operate.doctor.contracts import CheckedContract, contracts_of
from kmsconn.operate.doctor.cores import CheckedCore, SignerProbe
from kmsconn.operate.doctor.diagnosis import Diagnosis, fault, ok
from kmsconn.operate.doctor.machine import Machine
from kmsconn.operate.doctor.probing import Fact, Probe, run_probes
from kmsconn.operate.doctor.recent import RecentRequests, recent_probe
from kmsconn.operate.doctor.rehearsal import HandOver
from kmsconn.protocols.profile import Coprocessor, MaterialInUse, Profile, Subscription
from kmsconn.replies.wallet import Wallet, open_tx_sender
from kmsconn.transport.dialling import dial_sockets, sockets
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports
from kmsconn.transport.proxying import Way


class _Knowledge:
    """What probes learn for others."""

    def __init__(self) -> None:
        self.tx_sender = Fact[Address]("the tx sender")
        self.signer = Fact[Address]("the registered signer")
        self.material = Fact[MaterialInUse]("the key material on chain")
        self.recent = Fact[RecentRequests]("a recent decryption request")
        self.coprocessors = Fact[tuple[Coprocessor, ...]]("the registry of coprocessors")
        self.gas = Fact[int]("the gas of a reply")


@attrs.frozen
class _Subject:
    """What is examined: settings, and everything that was opened for them."""

    settings: Settings
    ports: Ports
    machine: Machine
    profile: Profile
    chains: tuple[CheckedChain, ...]
    contracts: tuple[CheckedContract, ...]
    cores: tuple[CheckedCore, ...]
    access: BucketAccess
    ask_core: bool
    known: _Knowledge = attrs.field(factory=_Knowledge)

    def chain(self, chain_id: int) -> CheckedChain:
        """Return the chain of an id."""
        return next(one for one in self.chains if one.chain.chain_id == chain_id)

    @property
    def gateway(self) -> CheckedChain:
        """The chain of decryptions."""
        return self.chain(self.settings.chains.gateway.chain_id)

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
    async with _open_subject(settings, ports, there, ask_core=ask_core) as subject:
        lines += await run_probes(list(_probes(subject)))
    own = GENERATIONS[settings.protocol.profile].table.in_own_words
    return [attrs.evolve(one, found=own(one.found), remedy=own(one.remedy)) for one in lines]


@asynccontextmanager
async def _open_subject(
    settings: Settings, ports: Ports, there: Machine, *, ask_core: bool
) -> AsyncIterator[_Subject]:
    profile = PROFILES[settings.protocol.profile](settings)
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_chains(settings, ports))
        client = await stack.enter_async_context(
            open_core(
                settings.core.core_endpoints, ports, settings.core.core_tls, settings.core.core_reply_budget
            )
        )
        yield _Subject(
            settings,
            ports,
            there,
            profile,
            opened,
            contracts_of(profile),
            _endpoints(client, settings.core.core_endpoints),
            await _open_buckets(stack, settings, ports, profile),
            ask_core,
        )


def _endpoints(client: CoreClient, urls: Sequence[str]) -> tuple[CheckedCore, ...]:
    return tuple(
        CheckedCore(client, index, url, Fact(client.endpoints[index]), Fact("an answer of the Core"))
        for index, url in enumerate(urls)
    )


async def _open_buckets(
    stack: AsyncExitStack, settings: Settings, ports: Ports, profile: Profile
) -> BucketAccess:
    """Open the buckets' client as the connector has it: an address that a name leads to is judged too."""
    policy = BucketPolicy(settings.ciphertexts.allow_http_buckets, settings.ciphertexts.allow_private_buckets)
    dial = sockets(allow=policy.allows_address) if ports.dial is dial_sockets else ports.dial
    way = Way(ports, dial, settings.ciphertexts.s3_connect_timeout)
    http = await stack.enter_async_context(open_http(ports, way=way, judge=policy.check))
    if profile.has_attestations:
        return BucketAccess(http, partial(BothForms, http), policy, ports, settings)
    sdk = await stack.enter_async_context(open_sdk(ports.offload, ports.proxies))
    s3 = settings.protocol.httpz.s3
    instead = None if s3 is None else Substitute(s3.region, s3.bucket, s3.endpoint or "")
    return BucketAccess(
        http, lambda directory: ByPlace(http, directory, sdk, instead), policy, ports, settings
    )


def _probes(subject: _Subject) -> Sequence[Probe]:
    """Return all probes in the order in which their lines are shown."""
    settings, ports, known = subject.settings, subject.ports, subject.known
    return [
        _wallet_probe(settings, known.tx_sender),
        machine.journal_probe(settings, subject.machine, ports, known.tx_sender),
        machine.monitoring_probe(settings, subject.machine, ports),
        *([machine.certificate_probe(settings, ports)] if _has_certificate(settings) else []),
        *_chain_probes(subject),
        *_contract_probes(subject),
        *_account_probes(subject),
        *_balance_probes(subject),
        *_core_probes(subject),
        *_ciphertext_probes(subject),
        rehearsal.reply_probe(subject.profile, subject.gateway, known.tx_sender, subject.cores, known.gas),
    ]


def _has_certificate(settings: Settings) -> bool:
    return settings.http_api is not None and settings.http_api.tls is not None


def _kind_of(settings: Settings) -> str:
    if settings.sends:
        return ""
    return ", of a shadow" if settings.is_shadow else ", for which other processes send"


def _wallet_probe(settings: Settings, tx_sender: Fact[Address]) -> Probe:
    async def look() -> Sequence[Diagnosis]:
        async with AsyncExitStack() as stack:
            try:
                sender = await stack.enter_async_context(open_tx_sender(settings, ignore))
            except StartRefused as error:
                return [
                    fault("tx sender", str(error), "check private_key or aws_kms, and the rights to use it")
                ]
            address = sender.address if isinstance(sender, Wallet) else sender
            tx_sender.learn(address)
            return [ok("tx sender", f"{checksum(address)}{_kind_of(settings)}")]

    return Probe("tx sender", look, gives=(tx_sender,), remedy="check private_key or aws_kms", limit=30.0)


def _chain_probes(subject: _Subject) -> Sequence[Probe]:
    settings = subject.settings
    several = subject.chains
    reading = settings.reading
    starts = {
        "ethereum": (Kind.KEYGEN, reading.kms_operation_from_block_number, "kms_operation_from_block_number"),
        "gateway": (
            Kind.PUBLIC_DECRYPTION,
            reading.decryption_from_block_number,
            "decryption_from_block_number",
        ),
    }

    def limits(chain: CheckedChain) -> Probe:
        if (heard := starts.get(chain.name)) is None:
            return chains.limits_probe(chain, None, settings.reading.get_logs_batch_size, None, "")
        kind, first, option = heard
        contract = subject.subscription(kind)
        return chains.limits_probe(chain, contract, settings.reading.get_logs_batch_size, first, option)

    return [
        *(chains.url_probe(chain, subject.ports) for chain in several),
        *(chains.head_probe(chain) for chain in several),
        chains.clock_probe(several, subject.ports.wall),
        *(limits(chain) for chain in several),
    ]


def _contract_probes(subject: _Subject) -> Sequence[Probe]:
    placed = [(one, subject.chain(one.configured.chain_id)) for one in subject.contracts]
    return [
        *(contracts.contract_probe(*pair) for pair in placed),
        *(contracts.domain_probe(*pair) for pair in placed if pair[0].configured.domain is not None),
    ]


def _account_probes(subject: _Subject) -> Sequence[Probe]:
    known, gateway = subject.known, subject.gateway
    if subject.settings.protocol.profile == HTTPZ_RC7:
        return [_registration(subject, 0, gateway, known.signer, "HTTPZ")]
    ethereum, unused = subject.chain(subject.settings.chains.ethereum.chain_id), Fact[Address]("the signer")
    return [
        _registration(subject, 0, gateway, known.signer, "GatewayConfig"),
        _registration(subject, 1, ethereum, unused, "ProtocolConfig"),
    ]


def _balance_probes(subject: _Subject) -> Sequence[Probe]:
    """Return the probes of the balances, for who sends."""
    known, gateway = subject.known, subject.gateway
    if not subject.settings.sends:
        return []
    balance = account.balance_probe(gateway, known.tx_sender, known.gas, few=account.FEW_REPLIES)
    ethereum = subject.chain(subject.settings.chains.ethereum.chain_id)
    if ethereum is gateway:
        return [balance]
    no_estimate = Fact[int]("the gas of a reply on Ethereum")
    no_estimate.lack("no reply is called there")
    of_keys = account.balance_probe(ethereum, known.tx_sender, no_estimate, few=account.FEW_KEY_REPLIES)
    return [balance, of_keys]


def _registration(
    subject: _Subject, place: int, chain: CheckedChain, signer: Fact[Address], registry: str
) -> Probe:
    right = subject.contract(registry).right
    tx_sender = subject.known.tx_sender
    return account.registration_probe(subject.profile, place, chain, tx_sender, signer=signer, right=right)


def _core_probes(subject: _Subject) -> Sequence[Probe]:
    known, limit = subject.known, subject.settings.core.healthcheck_timeout
    hand_over = HandOver(
        subject.profile,
        subject.chain,
        subject.cores[0].client,
        subject.access,
        known.coprocessors,
        known.tx_sender,
    )
    return [
        *(cores.health_probe(core, limit) for core in subject.cores),
        _on_chain_material_probe(subject),
        *(cores.material_probe(core, known.material, known.recent) for core in subject.cores),
        *(
            SignerProbe(
                core,
                subject.profile,
                known.recent,
                known.signer,
                hand_over.of if subject.ask_core else None,
            ).probe()
            for core in subject.cores
        ),
    ]


def _on_chain_material_probe(subject: _Subject) -> Probe:
    chain_id, _ = subject.profile.material()
    chain = subject.chain(chain_id)
    kinds = (
        ("KeyManager",)
        if subject.settings.protocol.profile == HTTPZ_RC7
        else ("KMSGeneration", "ProtocolConfig")
    )
    needs = tuple(subject.contract(kind).right for kind in kinds)

    async def look() -> Sequence[Diagnosis]:
        found = await run_query_plan(chain.rpc, subject.profile.material()[1])
        subject.known.material.learn(found)
        return [cores.describe_material("key material on chain", found)]

    return Probe("key material on chain", look, (chain.usable, *needs), gives=(subject.known.material,))


def _ciphertext_probes(subject: _Subject) -> Sequence[Probe]:
    known, gateway, settings = subject.known, subject.gateway, subject.settings
    registry = subject.contract("HTTPZ" if settings.protocol.profile == HTTPZ_RC7 else "GatewayConfig").right
    return [
        recent_probe(
            subject.profile,
            subject.subscription(Kind.PUBLIC_DECRYPTION),
            gateway,
            settings.reading.get_logs_batch_size,
            recent=known.recent,
            right=subject.contracts[0].right,
        ),
        buckets.registry_probe(subject.profile, gateway, (registry,), known.coprocessors),
        buckets.buckets_probe(subject.access, known.coprocessors, known.recent),
    ]
