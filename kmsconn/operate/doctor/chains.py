"""Probes of the chains: each URL alone, and the scheme it should have; the clock against the newest blocks; limits. Sends nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.chain.logs import BlockHead
from kmsconn.config.parties import Chain
from kmsconn.config.settings import Settings
from kmsconn.connector.alerting import CLOCK_AHEAD, CLOCK_BEHIND, OTHER_NODE, SET_CLOCK, wrong_clock
from kmsconn.errors import KmsconnError, StartRefused, Unreachable
from kmsconn.operate.doctor import nodes
from kmsconn.operate.doctor.diagnosis import CheckStatus, Diagnosis, fault, ok, skipped, warning
from kmsconn.operate.doctor.probing import Discovery, Probe
from kmsconn.protocols.profile import Subscription
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports
from kmsconn.transport.urls import TLS_SCHEMES, parse, show_origin
from kmsconn.transport.waiting import together

CLOCK = "clock of this machine"
STEADY_LAG = 180.0  # seconds that the newest block of a chain with steady blocks may be old
QUIET_LAG = 3600.0  # seconds likewise of a chain that makes blocks for transactions only


def judge(heads: Mapping[str, float], steady: Collection[str], now: float) -> Sequence[Diagnosis]:
    """Judge the clock, and where it is right each chain; ``heads`` are the times of the newest blocks by chain name.

    The newest block of all counts for the clock: one node may be behind, hardly all of them.
    """
    if not heads:
        return [skipped(CLOCK, "no chain has told its newest block")]
    clock = judge_clock(max(heads.values()), now)
    if clock is not None:
        return [clock]
    newest = now - max(heads.values())
    return [
        ok(CLOCK, f"within {max(CLOCK_AHEAD, CLOCK_BEHIND):g} s of the newest block ({newest:+.0f} s)"),
        *(judge_head(name, now - time, steady=name in steady) for name, time in heads.items()),
    ]


def judge_clock(newest: float, now: float) -> Diagnosis | None:
    """Return what is wrong with the clock by the newest block of all; None where nothing is."""
    found = wrong_clock(newest, now)
    if not found:
        return None
    more = f"; if it is right, every node is behind: {OTHER_NODE}" if now > newest else ""
    return fault(CLOCK, found, f"{SET_CLOCK}{more}")


def judge_head(name: str, age: float, *, steady: bool) -> Diagnosis:
    """Judge the age of a chain's newest block by a clock that is right."""
    checked, found = f"{name}: newest block", f"{age:.0f} s old"
    if steady and age > STEADY_LAG:
        return fault(checked, f"{found}: the node is behind", f"{OTHER_NODE}, or wait until this one has")
    if age > QUIET_LAG:
        return warning(
            checked, f"{found}: the chain is quiet, or the node is behind", f"if it is behind, {OTHER_NODE}"
        )
    return ok(checked, found)


RPC_REMEDY = "check the node, and the way to it"


@attrs.frozen
class NodeAtUrl:
    """One URL of a chain, and the connection to it."""

    url: str
    endpoint: Endpoint

    @property
    def shown(self) -> str:
        """The URL as far as it may be shown."""
        return show_origin(self.url)


@attrs.frozen
class CheckedChain:
    """A chain that the connector uses, under its name, with a connection to each of its URLs.

    ``option`` names the URLs in the configuration, ``id_option`` the chain id. ``steady``: it makes blocks without requests too, so that
    an old newest block is a fault.
    """

    name: str
    chain: Chain
    option: str
    id_option: str
    steady: bool
    ports: Ports
    nodes: tuple[NodeAtUrl, ...]
    usable: Probe[tuple[NodeAtUrl, ...]] = attrs.field(init=False)
    """Finds the nodes that answer and are on the right chain, at least one."""
    head: Probe[BlockHead] = attrs.field(init=False)
    """Reads the newest block; only its failure is a line, the clock's probe judges it."""

    @usable.default
    def _usable(self) -> Probe[tuple[NodeAtUrl, ...]]:
        async def look() -> Discovery[tuple[NodeAtUrl, ...]]:
            lines = await together([partial(_look_at_url, self, node) for node in self.nodes])
            several = zip(self.nodes, lines, strict=True)
            return Discovery(
                tuple(node for node, line in several if line.status is CheckStatus.OK) or None, lines
            )

        return Probe(f"{self.name}: chain id", look, remedy=RPC_REMEDY, limit=30.0)

    @head.default
    def _head(self) -> Probe[BlockHead]:
        async def look() -> Discovery[BlockHead]:
            return Discovery(await nodes.read_head(self.rpc))

        return Probe(f"{self.name}: newest block", look, (self.usable,), remedy=RPC_REMEDY)

    @property
    def rpc(self) -> Endpoint:
        """The first usable node's connection."""
        return self.usable.value[0].endpoint


@asynccontextmanager
async def open_chains(settings: Settings, ports: Ports) -> AsyncIterator[tuple[CheckedChain, ...]]:
    """Open every chain of the settings, each once, connecting to nobody yet: the gateway, Ethereum, the host chains."""
    async with AsyncExitStack() as stack:

        async def node(name: str, chain: Chain, url: str) -> NodeAtUrl:
            http = await stack.enter_async_context(open_http(ports))
            one = open_endpoint(attrs.evolve(chain, urls=(url,)), name, ports, http)
            return NodeAtUrl(url, await stack.enter_async_context(one))

        opened = []
        for name, chain, option, id_option, steady in _named_chains(settings):
            several = tuple([await node(name, chain, url) for url in chain.urls])
            opened.append(CheckedChain(name, chain, option, id_option, steady, ports, several))
        yield tuple(opened)


def _named_chains(settings: Settings) -> Iterator[tuple[str, Chain, str, str, bool]]:
    gateway, ethereum = settings.chains.gateway, settings.chains.ethereum
    yield "gateway", gateway, "gateway_url", "gateway_chain_id", False
    if ethereum != gateway:
        yield "ethereum", ethereum, "ethereum_url", "ethereum_chain_id", True
    for place, one in enumerate(settings.chains.host_chains):
        option = f"host_chains[{place}]"
        yield f"host chain {one.chain.chain_id}", one.chain, f"{option}.url", f"{option}.chain_id", True


async def _look_at_url(chain: CheckedChain, node: NodeAtUrl) -> Diagnosis:
    checked = f"{chain.name} {node.shown}: chain id"
    try:
        await node.endpoint.probe()
        version = await nodes.read_version(node.endpoint)
        syncing = await nodes.is_syncing(node.endpoint)
    except StartRefused as error:
        return fault(
            checked, str(error), f"name a node of this chain in {chain.option}, or correct {chain.id_option}"
        )
    except Unreachable as error:
        other = await find_scheme(node.url, chain.ports)
        remedy = (
            f"write {other}://… in {chain.option}: this address speaks that"
            if other
            else f"check {chain.option}, that the node runs, and the way to it"
        )
        return fault(checked, str(error), remedy)
    if syncing:
        return fault(checked, "the node still catches up with its chain", "wait for it, or name another node")
    return ok(checked, f"{chain.chain.chain_id}, as configured{f' ({version})' if version else ''}")


# --- clocks and limits


def clock_probe(chains: Sequence[CheckedChain], wall: Callable[[], float]) -> Probe[None]:
    """Return the probe of this machine's clock, and of each chain's newest block by it."""

    async def look() -> Sequence[Diagnosis]:
        await trio.lowlevel.checkpoint()
        known = {one.name: one.head.value.timestamp for one in chains if not one.head.missing}
        return judge(known, frozenset(one.name for one in chains if one.steady), wall())

    return Probe(CLOCK, look, uses=tuple(one.head for one in chains), limit=60.0)


def limits_probe(
    chain: CheckedChain,
    subscription: Subscription | None,
    batch_size: int,
    from_block: int | None,
    from_option: str,
) -> Probe[None]:
    """Return the probe of what each node gives: the calls of a batch, the blocks of a read, the logs of the first block."""

    async def of_node(node: NodeAtUrl) -> Sequence[Diagnosis]:
        checked, rpc = f"{chain.name} {node.shown}", node.endpoint
        lines = [await nodes.check_batch(checked, rpc)]
        if subscription is not None:
            where, head = (subscription.contract, subscription.topics), chain.head.value.number
            lines.append(await nodes.check_log_range(checked, rpc, *where, head=head, wanted=batch_size))
            if from_block is not None and lines[-1].status is not CheckStatus.FAULT:
                first = min(from_block, head)
                lines.append(await nodes.check_history(checked, rpc, *where, first, option=from_option))
        return lines

    async def look() -> Sequence[Diagnosis]:
        several = await together([partial(of_node, node) for node in chain.usable.value])
        return [line for lines in several for line in lines]

    return Probe(f"{chain.name}: limits of its nodes", look, (chain.usable, chain.head), remedy=RPC_REMEDY)


SCHEME_LIMIT = 3.0  # seconds for one scheme: who speaks it does so at once
_OTHERS = {
    "wss": ("https", "ws", "http"),
    "ws": ("http", "wss", "https"),
    "https": ("wss", "http", "ws"),
    "http": ("ws", "https", "wss"),
}


async def find_scheme(url: str, ports: Ports) -> str:
    """Return the scheme to which the address of a URL answers as a node; empty where there is none.

    Path, query and user info are left out where they would go in the clear though they were meant for TLS: they may be keys.
    Repeating: reads only. Cancellation: at any time.
    """
    for scheme in _OTHERS.get(parse(url).scheme, ()):
        with trio.move_on_after(SCHEME_LIMIT):
            if await _answers(_rewritten(url, scheme), ports):
                return scheme
    return ""


def _rewritten(url: str, scheme: str) -> str:
    parsed = parse(url)
    secret = parsed.tls and scheme not in TLS_SCHEMES
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{scheme}://{host}:{parsed.port}{'' if secret else parsed.target}"


async def _answers(url: str, ports: Ports) -> bool:
    """Say whether a node answers, whatever its chain."""
    async with open_http(ports) as http, open_endpoint(Chain(-1, (url,)), "address", ports, http) as one:
        try:
            await one.probe()
        except StartRefused:  # it has told its chain id, which is another than −1
            return True
        except KmsconnError:
            return False
    return True
