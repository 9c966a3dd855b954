"""Emulated dependencies on loopback sockets under a load, with the configuration file of their connector. Prints nothing."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, repeat
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.config.working import HttpApi
from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.ciphertexts import StoredCiphertext
from kmsconn.emulator.config_file import journal_beside, member_config, write_config
from kmsconn.emulator.control import Control
from kmsconn.emulator.core import EmulatedCore, become
from kmsconn.emulator.core_requests import CoreRelease, Job
from kmsconn.emulator.dependencies import EmulatedDependencies, RealCore
from kmsconn.emulator.fhevm_dependencies import GENERATIONS, Traffic
from kmsconn.emulator.ground_truth import CommitteeGroundTruth, CommitteeVerdict, GroundTruth, Trace
from kmsconn.emulator.http import serve_http
from kmsconn.emulator.key_ceremonies import DEFAULT_PARAMS
from kmsconn.emulator.key_life import KEY_STEP_TIMEOUT, QUICK, KeyLife, KeyResult
from kmsconn.emulator.load import POSTED_FORMS, Load, PostVerdict, Relayers, run_load, tidy
from kmsconn.emulator.network import reserve_ports, serve_sockets
from kmsconn.emulator.signcryption import Randomness, abi_word
from kmsconn.emulator.users import Prepared, Users
from kmsconn.errors import Undecodable
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.requests import FHEVM, profile_named
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.http import open_http

_REPLY = DECRYPTION.function("publicDecryptionResponse")
_SELECTOR_BYTES = 4


@attrs.frozen
class PlaintextVerdict:
    """How many included replies were compared, and in how many the plaintexts are not the values that were encrypted."""

    compared: int
    wrong: int


@attrs.define(eq=False)
class PlaintextCheck:
    """Is told what is requested and what is replied. Repeating: a reply that is told again counts once."""

    _expected: dict[bytes, bytes] = attrs.field(factory=dict, init=False)
    """By the transaction of the request: the plaintexts as the contract gets them."""
    _compared: dict[bytes, bool] = attrs.field(factory=dict, init=False)
    """By the transaction of the reply: whether they are right."""

    def expect(self, transaction_hash: bytes, prepared: Prepared) -> None:
        """Take note of a request that is made."""
        if prepared.form == "public":
            words = (abi_word(one.value, one.fhe_type) for one in prepared.ciphertexts)
            self._expected[transaction_hash] = b"".join(words)

    def compare(self, trace: Trace, reply: Mined) -> None:
        """Compare a reply that is included with success."""
        expected = self._expected.get(trace.transaction_hash)
        if expected is not None and reply.outcome.status:
            self._compared[reply.transaction.hash] = _revealed(reply.transaction.data) == expected

    def verdict(self) -> PlaintextVerdict:
        """Judge what was compared so far."""
        return PlaintextVerdict(len(self._compared), sum(not right for right in self._compared.values()))


def _revealed(calldata: bytes) -> bytes | None:
    """Return the plaintexts in a reply; None where it is no public one."""
    if calldata[:_SELECTOR_BYTES] != _REPLY.selector:
        return None
    try:
        _, result, *_ = _REPLY.decode(calldata)
    except Undecodable:
        return None
    return bytes(result)


_ID = re.compile(rb"[0-9a-f]{64}")  # as Cores of both generations are given ids


def log_calls(
    dependencies: EmulatedDependencies, ground_truth: GroundTruth, tell: Callable[[str], None]
) -> None:
    """Let every request and every call be told from now on."""
    ground_truth.on_request = partial(_request, tell)
    for name, core in dependencies.cores_by_name.items():
        core.on_call = partial(_call, tell, name)


def _request(tell: Callable[[str], None], trace: Trace) -> None:
    tell(f"gateway  request {trace.id:064x} in block {trace.block} by {to_hex(trace.transaction_hash)}")


def _call(tell: Callable[[str], None], name: str, method: str, request: bytes) -> None:
    found = _ID.search(request)
    tell(f"{name:8} {method} {found[0].decode() if found else ''}".rstrip())


LOOPBACK = "127.0.0.1"
POSTS_AT_ONCE = 1000
"""Connections of all relayers to one connector: as many clients as may wait there."""
_SEALS = 32
"""Shared secrets that all shares of an emulation are sealed with; each still has a nonce of its own."""


@attrs.frozen
class CommitteePlan:
    """Which nodes there are, each with a configuration file and a connector of its own, and whether keys are made."""

    members: int = 1
    real_cores: tuple[RealCore, ...] = ()
    """One for each member, in the place of emulated ones; or none."""
    keys: bool = False
    """Whether a life of keys is led: beside the load, with real Cores before it."""
    params: int = DEFAULT_PARAMS
    """The FHE parameters of the keys."""
    migrates: bool = False
    """Whether that life goes through an upgrade of the contracts and a migration of the key."""

    @property
    def options(self) -> dict[str, Any]:
        """How dependencies are told of the nodes."""
        real = {"real_cores": self.real_cores} if self.real_cores else {}
        return {"members": self.members, **real}


@attrs.frozen
class EmulationPlan:
    """What is emulated. ``computing`` in seconds for each job of a Core; ``size`` in bytes for each ciphertext.

    Without a load it ends by cancellation only. ``control`` is the port for `Control`, None for none.
    ``history``: seconds of Gateway blocks that are kept whole, None for all.
    """

    config: Path
    load: Load | None
    size: int = 1024
    seed: int = 0
    shards: int = 1
    releases: tuple[CoreRelease, ...] = ()
    """The releases of the shards of a Core in turn, the first one that of the other members; none: of fhevm 0.14."""
    computing: float | Callable[[], float] = 0.0
    control: int | None = None
    history: float | None = None
    profile: str = FHEVM
    committee: CommitteePlan = attrs.field(factory=CommitteePlan)
    ciphertexts: tuple[StoredCiphertext, ...] = ()
    """The ciphertexts that requests are about; if there are none, each is made by itself."""


@attrs.frozen
class EmulationResult:
    """What came of an emulation; ``keys`` of each node where a life of keys was led, else empty."""

    verdict: CommitteeVerdict
    keys: tuple[KeyResult, ...] = ()
    plaintexts: PlaintextVerdict | None = None
    """Of ciphertexts that were given."""
    posts: PostVerdict | None = None
    """Of what was posted over HTTP."""

    @property
    def keys_well(self) -> bool:
        """Every step of the life of keys was taken; a node on its own has given every reply, and none has given one twice."""
        if len(self.keys) == 1:
            return self.keys[0].well
        return all(len(keys.done) == keys.steps and not keys.verdict.doubled for keys in self.keys)

    @property
    def well(self) -> bool:
        """Requests, posts and keys went well, and no plaintext is wrong."""
        right = self.plaintexts is None or not self.plaintexts.wrong
        answered = self.posts is None or self.posts.well
        return self.verdict.well and self.keys_well and right and answered


@attrs.frozen
class Emulation:
    """One emulation: its dependencies, its users, and the ground truth that judges, at any time, what became of the requests."""

    plan: EmulationPlan
    dependencies: EmulatedDependencies
    traffic: Users[EmulatedDependencies]
    committee: CommitteeGroundTruth
    keys: KeyLife | None = None
    plaintexts: PlaintextCheck | None = None
    relayers: Relayers | None = None

    @classmethod
    def of(cls, plan: EmulationPlan, clock: Callable[[], float] = time.time) -> Emulation:
        """Make everything of a plan; nothing listens yet. ``clock`` gives Unix seconds."""
        traffic = GENERATIONS[profile_named(plan.profile)].settle(
            clock, Random(plan.seed), size=plan.size,
            shards=plan.shards, computing=plan.computing, seed=plan.seed, **plan.committee.options,
        )  # fmt: skip
        dependencies = traffic.dependencies
        committee = CommitteeGroundTruth.of(dependencies, plan.committee.members)
        if plan.history is not None:
            dependencies.gateway.history.kept = round(plan.history / dependencies.gateway.block_time)
        _prepare(dependencies, committee.nodes[0])
        _release(dependencies, plan.releases)
        keys, of_keys = None, plan.committee
        if of_keys.keys and isinstance(traffic, Traffic):
            keys = KeyLife.beside(traffic, *committee.nodes, params=of_keys.params, migrates=of_keys.migrates)
        check = _stock(traffic, committee, plan.ciphertexts) if plan.ciphertexts else None
        posts = plan.load is not None and plan.load.posts
        relayers = Relayers(traffic) if posts and isinstance(traffic, Traffic) else None
        return cls(plan, dependencies, traffic, committee, keys, check, relayers)

    @property
    def ground_truth(self) -> GroundTruth:
        """The ground truth of the first node."""
        return self.committee.nodes[0]

    def result(self) -> EmulationResult:
        """Return what came of it so far."""
        members = range(self.plan.committee.members)
        keys = () if self.keys is None else tuple(self.keys.result(member) for member in members)
        plaintexts = None if self.plaintexts is None else self.plaintexts.verdict()
        posts = None if self.relayers is None else self.relayers.verdict()
        return EmulationResult(self.committee.verdict(), keys, plaintexts, posts)

    async def run(self) -> None:
        """Serve, write the configuration files and put on the load, until that is over.

        Raises ConfigError when a file cannot be written, as a group. Cancellation: at any time; ``ground_truth`` keeps what it saw.
        """
        members = self.plan.committee.members
        with reserve_ports(2 * members) as ports:
            await self._run([f"{LOOPBACK}:{port}" for port in ports])

    async def _run(self, addresses: Sequence[str]) -> None:
        members = self.plan.committee.members
        async with trio.open_nursery() as nursery:
            await nursery.start(self.dependencies.serve_on_sockets)
            monitoring, posting = addresses[:members], addresses[members:]
            if self.plan.control is not None:
                control = self._control(monitoring[0])
                await nursery.start(control.drills.run)
                handler = partial(serve_http, handler=control.handle)
                serve = partial(serve_sockets, handler, crashes=self.dependencies.crashes)
                await nursery.start(partial(serve, port=self.plan.control))
            if self.relayers is not None:
                self.relayers.urls = tuple(f"http://{address}" for address in posting)
            for member in range(members):
                self._write_config(member, monitoring[member], posting[member])
            await self.put_load_on()
            nursery.cancel_scope.cancel()

    def settings(self, member: int = 0, **changes: Any) -> Settings:
        """Return the settings of one member's connector."""
        config = member_config(self.plan.config, member, self.plan.committee.members)
        quick = {} if self.keys is None else QUICK
        return self.dependencies.settings(journal_beside(config), member, **quick, **changes)

    def _write_config(self, member: int, monitoring: str, posting: str) -> None:
        config = member_config(self.plan.config, member, self.plan.committee.members)
        settings = self.settings(member, monitoring_endpoint=monitoring)
        if self.relayers is not None:
            served = frozenset(host.chain.chain_id for host in settings.chains.host_chains)
            settings = settings.but(http_api=HttpApi(posting, served))
        write_config(config, settings)

    def _control(self, monitoring: str) -> Control:
        control = Control(self.dependencies, self.traffic, self.committee, time.time() - trio.current_time())
        control.drills.scene.monitoring = monitoring
        return control

    async def put_load_on(self) -> None:
        """Lead the life of keys and put on the load, until both are over. The dependencies must run. Cancellation: at any time."""
        load = self.plan.load
        async with trio.open_nursery() as nursery:
            if self.keys is not None and self.plan.committee.real_cores:
                await self.keys.play()  # they decrypt nothing before they have a key
            elif self.keys is not None:
                longest = math.inf if load is None else load.seconds + KEY_STEP_TIMEOUT
                nursery.start_soon(self.keys.lead, longest)
            if self.relayers is not None and load is not None:
                nursery.start_soon(_post_all, self.relayers, load)
            if load is not None:
                await run_load(load, self.traffic, self.committee)
            else:
                nursery.start_soon(tidy, self.traffic, self.committee)
                await self.committee.watch()


def _release(dependencies: EmulatedDependencies, releases: tuple[CoreRelease, ...]) -> None:
    """Let the Cores be of these releases, where any are named."""
    for core, release in zip(dependencies.cores, cycle(releases), strict=False):
        become(core.core, release)
    for core, release in zip(dependencies.others, repeat(releases[0]) if releases else (), strict=False):
        become(core.core, release)


async def _post_all(relayers: Relayers, load: Load) -> None:
    """Post the forms of a load that there are over HTTP too."""
    forms = tuple(form for form in load.forms if form in POSTED_FORMS)
    async with open_http(real_ports(), POSTS_AT_ONCE) as http:
        await relayers.run(http, load.posts, load.seconds, forms)


def _stock(
    traffic: Users[Any], committee: CommitteeGroundTruth, ciphertexts: tuple[StoredCiphertext, ...]
) -> PlaintextCheck:
    """Let users ask for these ciphertexts, and return what compares the replies with their values."""
    check = PlaintextCheck()
    traffic.stock, traffic.on_send = ciphertexts, check.expect
    for node in committee.nodes:
        node.on_reply = check.compare
    return check


def _prepare(dependencies: EmulatedDependencies, ground_truth: GroundTruth) -> None:
    """Let a ground truth be told of the moments on the way to an answer, and every Core seal cheaply."""
    dependencies.gateway.intake.on_submit = ground_truth.note_sent
    for core in (shard.core for shard in dependencies.cores):
        core.on_start, core.on_answer = ground_truth.note_started, ground_truth.note_given
    for core in (faults.core for faults in dependencies.cores_by_name.values()):
        if isinstance(core, EmulatedCore):
            core.sealing = seal_cheaply


def seal_cheaply(job: Job, place: int) -> Randomness:
    """Return the randomness of a share with one of a few encapsulations: making them is most of an emulated Core's work."""
    drawn = Randomness.from_seed(place.to_bytes(4) + job.request_id)
    return attrs.evolve(drawn, encapsulation_m=(drawn.encapsulation_m[0] % _SEALS).to_bytes(32))
