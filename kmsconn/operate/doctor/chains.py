"""Probes of the chains: each URL alone, and its scheme; the clock against the newest blocks; what nodes say, and their limits.

Sends nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.chain.logs import BlockHead, decode_logs, read_block
from kmsconn.chain.port import Call, Rpc, RpcError, clean
from kmsconn.config.parties import Chain
from kmsconn.config.settings import Settings
from kmsconn.connector.alerting import CLOCK_AHEAD, CLOCK_BEHIND, OTHER_NODE, SET_CLOCK, wrong_clock
from kmsconn.errors import KmsconnError, StartRefused, Unreachable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity, quantity, to_hex
from kmsconn.operate.doctor.probing import (
    CheckStatus,
    Diagnosis,
    Discovery,
    Probe,
    fault,
    ok,
    skipped,
    warning,
)
from kmsconn.protocols.profile import Subscription
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports
from kmsconn.transport.urls import TLS_SCHEMES, parse, show_origin
from kmsconn.transport.waiting import together

LARGEST_BATCH = 100
"""Calls in a batch that ``chain.asking`` makes at most."""
_BATCHES = (LARGEST_BATCH, 50, 20, 10, 3)  # the reader puts three calls in a batch: head, kept block and logs
_VERSION_LENGTH = 64


async def _told(rpc: Rpc, method: str) -> Any:
    """Ask a node about itself; None where it does not tell."""
    try:
        return await rpc.call(method)
    except RpcError:
        return None


async def read_wei(rpc: Rpc, method: str, *params: Any) -> int:
    """Ask for an amount. Raises Unreachable."""
    try:
        return from_quantity(await _ask(rpc, method, *params))
    except ValueError as error:
        raise Unreachable(f"the node's answer to {method} cannot be read") from error


async def _ask(rpc: Rpc, method: str, *params: Any) -> Any:
    try:
        return await rpc.call(method, *params)
    except RpcError as error:
        raise Unreachable(f"the node refuses {method}: {error}") from error


async def logs_between(
    rpc: Rpc, contract: Address, topics: Sequence[bytes], first: int, last: int
) -> list[Log]:
    """Ask for the logs of a contract. Raises RpcError where the node refuses, Unreachable."""
    criteria = {
        "address": to_hex(contract),
        "topics": [[to_hex(topic) for topic in topics]],
        "fromBlock": quantity(first),
        "toBlock": quantity(last),
    }
    found, _ = decode_logs(await rpc.call("eth_getLogs", criteria))
    return found


async def check_log_range(
    node: str, rpc: Rpc, contract: Address, topics: Sequence[bytes], *, head: int, wanted: int
) -> Diagnosis:
    """Ask for the newest blocks of logs, and where they are too many search the most that the node gives. Raises Unreachable."""
    checked = f"{node}: blocks of eth_getLogs"
    asked, refusal = min(wanted, head + 1), ""
    given, refused = 0, asked + 1
    width = asked
    while refused - given > 1:
        try:
            await logs_between(rpc, contract, topics, head - width + 1, head)
        except RpcError as error:
            refusal, refused = refusal or str(error), width
        else:
            given = width
        width = (given + refused) // 2
    if not given:
        return fault(checked, f"none: {refusal}", "name a node that serves eth_getLogs")
    if given < asked:
        found = f"{given} are given, {asked} (get_logs_batch_size) are not: {refusal}"
        return warning(checked, found, f"set get_logs_batch_size to {given}, or raise the node's limit")
    return ok(checked, f"{given} at once")


async def check_batch(node: str, rpc: Rpc) -> Diagnosis:
    """Ask in ever smaller batches until the node answers one."""
    checked, refusal = f"{node}: calls in a batch", ""
    for size in _BATCHES:
        try:
            found = await rpc.batch([Call("eth_chainId")] * size)
        except KmsconnError as error:
            refusal = refusal or str(error)
            continue
        refused = [str(one) for one in found if isinstance(one, RpcError)]
        if not refused:
            if not refusal:
                return ok(checked, f"{size}")
            remedy = f"raise the node's limit to {LARGEST_BATCH} calls a batch"
            return warning(checked, f"{size} at most: {refusal}", remedy)
        refusal = refusal or refused[0]
    return fault(checked, f"none is answered: {refusal}", "name a node that takes JSON-RPC batches")


async def check_history(
    node: str, rpc: Rpc, contract: Address, topics: Sequence[bytes], block: int, *, option: str
) -> Diagnosis:
    """Ask for the logs of the block from which the connector is to begin. Raises Unreachable."""
    checked = f"{node}: logs of block {block}"
    try:
        await logs_between(rpc, contract, topics, block, block)
    except RpcError as error:
        remedy = f"name a node with the history from there on (archive), or a later {option}"
        return fault(checked, f"the connector is to begin there, and the node has none: {error}", remedy)
    return ok(checked, "are there")


CLOCK = "clock of this machine"
STEADY_LAG = 180.0  # seconds that the newest block of a chain with steady blocks may be old
QUIET_LAG = 3600.0  # seconds likewise of a chain that makes blocks for transactions only


def judge(heads: Mapping[str, float], steady: Collection[str], now: float) -> Sequence[Diagnosis]:
    """Judge the clock, and where it is right each chain; ``heads`` are the times of the newest blocks by chain name.

    The newest block of all counts for the clock: one node may be behind, hardly all of them.
    """
    if not heads:
        return [skipped(CLOCK, "no chain has told its newest block")]
    newest = max(heads.values())
    if found := wrong_clock(newest, now):
        more = f"; if it is right, every node is behind: {OTHER_NODE}" if now > newest else ""
        return [fault(CLOCK, found, f"{SET_CLOCK}{more}")]
    within = max(CLOCK_AHEAD, CLOCK_BEHIND)
    return [
        ok(CLOCK, f"within {within:g} s of the newest block ({now - newest:+.0f} s)"),
        *(judge_head(name, now - time, steady=name in steady) for name, time in heads.items()),
    ]


def judge_head(name: str, age: float, *, steady: bool) -> Diagnosis:
    """Judge the age of a chain's newest block by a clock that is right."""
    checked, found = f"{name}: newest block", f"{age:.0f} s old"
    if steady and age > STEADY_LAG:
        return fault(checked, f"{found}: the node is behind", f"{OTHER_NODE}, or wait until this one has")
    if age > QUIET_LAG:
        found = f"{found}: the chain is quiet, or the node is behind"
        return warning(checked, found, f"if it is behind, {OTHER_NODE}")
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
            answering = tuple(node for node, line in several if line.status is CheckStatus.OK)
            return Discovery(answering or None, lines)

        return Probe(f"{self.name}: chain id", look, remedy=RPC_REMEDY, limit=30.0)

    @head.default
    def _head(self) -> Probe[BlockHead]:
        async def look() -> Discovery[BlockHead]:
            return Discovery(read_block(await _ask(self.rpc, "eth_getBlockByNumber", "latest", False)))

        return Probe(f"{self.name}: newest block", look, (self.usable,), remedy=RPC_REMEDY)

    @property
    def rpc(self) -> Endpoint:
        """The first usable node's connection."""
        return self.usable.value[0].endpoint


@asynccontextmanager
async def open_chains(settings: Settings, ports: Ports) -> AsyncIterator[tuple[CheckedChain, ...]]:
    """Open every chain of the settings, each once, connecting to nobody yet: the gateway, Ethereum, the host chains."""
    async with AsyncExitStack() as stack:

        async def node(name: str, chain: Chain, url: str, option: str) -> NodeAtUrl:
            http = await stack.enter_async_context(open_http(ports))
            one = open_endpoint(attrs.evolve(chain, urls=(url,), option=option), name, ports, http)
            return NodeAtUrl(url, await stack.enter_async_context(one))

        opened = []
        for name, chain, option, id_option, steady in _named_chains(settings):
            several = tuple([await node(name, chain, url, option) for url in chain.urls])
            opened.append(CheckedChain(name, chain, option, id_option, steady, ports, several))
        yield tuple(opened)


def _named_chains(settings: Settings) -> Iterator[tuple[str, Chain, str, str, bool]]:
    gateway, ethereum = settings.chains.gateway, settings.chains.ethereum
    yield "gateway", gateway, "gateway_url", "gateway_chain_id", False
    if ethereum != gateway:
        yield "ethereum", ethereum, "ethereum_url", "ethereum_chain_id", True
    for index, one in settings.chains.indexed():
        option = f"host_chains[{index}]"
        yield f"host chain {one.chain.chain_id}", one.chain, f"{option}.url", f"{option}.chain_id", True


async def _look_at_url(chain: CheckedChain, node: NodeAtUrl) -> Diagnosis:
    checked = f"{chain.name} {node.shown}: chain id"
    try:
        await node.endpoint.probe()
        version, syncing = [await _told(node.endpoint, one) for one in ("web3_clientVersion", "eth_syncing")]
    except StartRefused as error:
        remedy = f"name a node of this chain in {chain.option}, or correct {chain.id_option}"
        return fault(checked, str(error), remedy)
    except Unreachable as error:
        remedy = error.remedy or f"check {chain.option}, that the node runs, and the way to it"
        if other := await find_scheme(node.url, chain.ports):
            remedy = f"write {other}://… in {chain.option}: this address speaks that"
        return fault(checked, str(error), remedy)
    if syncing:
        return fault(checked, "the node still catches up with its chain", "wait for it, or name another node")
    program = f" ({clean(version)[:_VERSION_LENGTH]})" if version and isinstance(version, str) else ""
    return ok(checked, f"{chain.chain.chain_id}, as configured{program}")


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
        lines = [await check_batch(checked, rpc)]
        if subscription is not None:
            where, head = (subscription.contract, subscription.topics), chain.head.value.number
            lines.append(await check_log_range(checked, rpc, *where, head=head, wanted=batch_size))
            if from_block is not None and lines[-1].status is not CheckStatus.FAULT:
                first = min(from_block, head)
                lines.append(await check_history(checked, rpc, *where, first, option=from_option))
        return lines

    async def look() -> Sequence[Diagnosis]:
        several = await together([partial(of_node, node) for node in chain.usable.value])
        return [line for lines in several for line in lines]

    return Probe(f"{chain.name}: limits of its nodes", look, (chain.usable, chain.head), remedy=RPC_REMEDY)


SCHEME_LIMIT = 3.0  # seconds for one scheme: who speaks it does so at once
_OTHERS = {
    "wss": ("https", "ws", "http"), "ws": ("http", "wss", "https"), "https": ("wss", "http", "ws"), "http": ("ws", "https", "wss"),
}  # fmt: skip


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
