"""Drills of chains and their nodes: calls that hang, fail or lie, limits, fees, finality, lag, and reorganisations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Literal

import msgspec

from kmsconn.emulator.blocks import Branch, Transaction
from kmsconn.emulator.call_rules import CallRule, Honest, Spoiled, hanging
from kmsconn.emulator.chain import EmulatedChain, keep_all
from kmsconn.emulator.drills.drill import (
    Drill,
    DrillBody,
    DrillError,
    DrillScene,
    End,
    Target,
    appended,
    changing,
    together,
)
from kmsconn.emulator.node_error import INVALID_PARAMS, SERVER_ERROR, NodeError
from kmsconn.emulator.node_faults import NodeFault
from kmsconn.emulator.pool import PoolKind
from kmsconn.emulator.rpc import RpcNode
from kmsconn.emulator.sequencer import pool_of
from kmsconn.ethereum.hexes import from_quantity, quantity
from kmsconn.ethereum.transactions import Eip1559Transaction, sign_transaction


class RpcCalls(DrillBody, frozen=True):
    """Which calls: see ``CallRule``. An empty method stands for all."""

    method: str = ""
    share: float = 1.0
    times: int | None = None
    containing: str = ""
    one: bool = False


class RefusedCalls(RpcCalls, frozen=True):
    """And the error that they get; ``nested``: how deep its data are nested."""

    code: int = SERVER_ERROR
    message: str = "internal error"
    data: Any = None
    nested: int = 0


class LyingNode(RpcCalls, frozen=True):
    """And the result that they get; ``nested``: how deep it is nested, in place of ``value``."""

    value: Any = None
    nested: int = 0


class Limit(DrillBody, frozen=True):
    """The most calls in a batch."""

    calls: int


class WildFees(DrillBody, frozen=True):
    """What nodes say of fees, in wei as number or hex text. ``really``: the chain's own base fee as well."""

    base_fee: int | str | None = None
    priority_fee: int | str | None = None
    times: int | None = None
    really: bool = False


class Percent(DrillBody, frozen=True):
    """A share of the honest value, and how often."""

    percent: int = 50
    times: int | None = None


class Finality(DrillBody, frozen=True):
    """``known`` false: nodes do not know the tag."""

    known: bool = True


class LaggingNode(DrillBody, frozen=True):
    """Blocks behind the head."""

    blocks: int = 5


class Balance(DrillBody, frozen=True):
    """What the connector's account has, in wei."""

    wei: int = 0


class PoolChoice(DrillBody, frozen=True):
    """A kind of pool."""

    kind: PoolKind = "geth"


class Misbehaviour(DrillBody, frozen=True):
    """A fault of a node by name, and how often: a share of the occasions, or a number of them."""

    how: NodeFault
    share: float = 1.0
    times: int | None = None


class Reorganisation(DrillBody, frozen=True):
    """A reorganisation of ``blocks`` blocks. ``reuse_ids``: the new branch assigns the ids to other requests. ``drop``: what it lacks.

    ``shorter``: the new branch has no blocks instead of the replaced ones; the head goes back.
    """

    blocks: int
    reuse_ids: bool = False
    drop: Literal["", "requests", "replies", "everything"] = ""
    shorter: bool = False


class Copies(DrillBody, frozen=True):
    """The share of replies that the second sender sends too."""

    share: float = 1.0


def _ruled(scene: DrillScene, name: str, body: RpcCalls, act: Spoiled) -> End:
    """Put one rule on all nodes of a chain."""
    methods = frozenset({body.method} - {""})
    rule = CallRule(act, methods, body.share, body.times, body.containing, body.one)
    return _on_nodes(scene, name, lambda node: appended(node.faults.rules, rule))


def _on_nodes(scene: DrillScene, name: str, put_on: Callable[[RpcNode], End]) -> End:
    return together(*(put_on(node) for node in scene.dependencies.clusters[name].nodes))


def _hang(scene: DrillScene, name: str, body: RpcCalls) -> End:
    return _ruled(scene, name, body, hanging)


def _refuse(scene: DrillScene, name: str, body: RefusedCalls) -> End:
    data = _nested(body.nested) if body.nested else body.data

    def refuse(honest: Honest) -> Any:
        del honest
        raise NodeError(body.code, body.message, data)

    return _ruled(scene, name, body, refuse)


def _lie(scene: DrillScene, name: str, body: LyingNode) -> End:
    value = _nested(body.nested) if body.nested else body.value
    return _ruled(scene, name, body, lambda _: value)


def _nested(depth: int) -> msgspec.Raw:
    return msgspec.Raw(b"[" * depth + b"]" * depth)


def _batch_limit(scene: DrillScene, name: str, body: Limit) -> End:
    return _on_nodes(scene, name, lambda node: changing(node.limits, "batch", body.calls))


def _fees(scene: DrillScene, name: str, body: WildFees) -> End:
    base, tip = _wei("base_fee", body.base_fee), _wei("priority_fee", body.priority_fee)
    ends = [
        _ruled(scene, name, RpcCalls(method, times=body.times), partial(_retold, tell, base, tip))
        for method, tell in _FEES.items()
    ]
    if body.really and base is not None:
        ends.append(changing(scene.chain(name), "base_fee", base))
    return together(*ends)


def _retold(tell: Retell, base: int | None, tip: int | None, honest: Honest) -> Any:
    return tell(honest(), base, tip)


def _tell_price(told: Any, base: int | None, tip: int | None) -> Any:
    return told if base is None else quantity(base + (tip or 0))


def _tell_tip(told: Any, base: int | None, tip: int | None) -> Any:
    del base
    return told if tip is None else quantity(tip)


def _tell_block(told: Any, base: int | None, tip: int | None) -> Any:
    del tip
    return told if told is None or base is None else {**told, "baseFeePerGas": quantity(base)}


def _tell_history(told: Any, base: int | None, tip: int | None) -> Any:
    fees = told["baseFeePerGas"] if base is None else [quantity(base)] * len(told["baseFeePerGas"])
    told = {**told, "baseFeePerGas": fees}
    if tip is None or "reward" not in told:
        return told
    return {**told, "reward": [[quantity(tip)] * len(block) for block in told["reward"]]}


Retell = Callable[[Any, int | None, int | None], Any]
_FEES: dict[str, Retell] = {
    "eth_gasPrice": _tell_price,
    "eth_maxPriorityFeePerGas": _tell_tip,
    "eth_feeHistory": _tell_history,
    "eth_getBlockByNumber": _tell_block,
    "eth_getBlockByHash": _tell_block,
}


def _wei(field: str, text: int | str | None) -> int | None:
    try:
        return from_quantity(text) if isinstance(text, str) else text
    except ValueError as error:
        raise DrillError(field, str(error), "write a number, or hex text such as 0x3b9aca00") from error


def _short_estimate(scene: DrillScene, name: str, body: Percent) -> End:
    def shorten(honest: Honest) -> Any:
        return quantity(from_quantity(honest()) * body.percent // 100)

    return _ruled(scene, name, RpcCalls("eth_estimateGas", times=body.times), shorten)


def _finality(scene: DrillScene, name: str, body: Finality) -> End:
    chain = scene.chain(name)
    if body.known:
        return changing(chain.finality, "stands_at", chain.finality.newest(chain.head.number))
    refusal = RefusedCalls(
        containing='"finalized"', code=INVALID_PARAMS, message="invalid block tag: finalized"
    )
    return _refuse(scene, name, refusal)


def _lag(scene: DrillScene, name: str, body: LaggingNode) -> End:
    return _on_nodes(scene, name, lambda node: changing(node, "lag", body.blocks))


def _stall(scene: DrillScene, name: str, body: DrillBody) -> End:
    del body
    return changing(scene.chain(name), "stalled", True)


def _balance(scene: DrillScene, name: str, body: Balance) -> End:
    chain, owner = scene.chain(name), scene.dependencies.sender.address
    before = chain.evm.account(owner).balance
    chain.evm.set_balance(owner, body.wei)
    return lambda: chain.evm.set_balance(owner, before)


def _pool(scene: DrillScene, name: str, body: PoolChoice) -> End:
    return changing(scene.chain(name).intake, "pool", pool_of(body.kind))


def _misbehave(scene: DrillScene, name: str, body: Misbehaviour) -> End:
    def put_on(node: RpcNode) -> End:
        faults = node.faults
        if body.times is not None:
            faults.script(body.how, body.times)
            return lambda: faults.script(body.how, -faults.scripted(body.how))
        faults.probability[body.how] = body.share
        return lambda: faults.probability.update({body.how: 0.0})

    return _on_nodes(scene, name, put_on)


def _reorganise(scene: DrillScene, name: str, body: Reorganisation) -> End:
    chain = scene.chain(name)
    deepest = chain.head.number - chain.history.pruned_before
    if not 0 < body.blocks <= deepest:
        raise DrillError(
            "blocks", f"the chain can lose 1 to {deepest} blocks now", "name fewer, or wait for more"
        )
    drop = _dropping(scene, body)
    branch = chain.rewind(body.blocks, drop=drop) if body.shorter else chain.reorg(body.blocks, drop=drop)
    if body.reuse_ids:
        for _ in _requests(scene, branch):
            scene.users.any()
    return lambda: _put_back(chain, branch)


def _dropping(scene: DrillScene, body: Reorganisation) -> Callable[[Transaction], bool]:
    requests = body.reuse_ids or body.drop in {"requests", "everything"}
    replies = body.reuse_ids or body.drop in {"replies", "everything"}
    if not (requests or replies):
        return keep_all
    contract = scene.dependencies.decryption.address

    def is_dropped(transaction: Transaction) -> bool:
        is_reply = scene.dependencies.generation_events.replied(transaction.data) is not None
        return transaction.to == contract and (replies if is_reply else requests)

    return is_dropped


def _requests(scene: DrillScene, branch: Branch) -> list[Transaction]:
    requested = scene.dependencies.generation_events.requested
    return [
        mined.transaction
        for block in branch.blocks
        for mined in block.mined
        if any(requested(log.topics) is not None for log in mined.logs)
    ]


def _put_back(chain: EmulatedChain, branch: Branch) -> None:
    """Let the old branch return where its root still stands."""
    root = chain.block(branch.root)
    if root is not None and root.hash == branch.blocks[0].parent and chain.head.number > branch.root:
        chain.restore(branch)


class _SecondSender:
    """Another process with the connector's key: sends a reply again, once it is in a block, under the next nonce."""

    def __init__(self, scene: DrillScene, share: float) -> None:
        self._chain, self._dependencies, self._share = scene.dependencies.gateway, scene.dependencies, share
        self._own: set[bytes] = set()
        self._random = Random(0)
        self._read = self._chain.head.number

    def look(self) -> None:
        """Copy the replies of the blocks since the last look."""
        start, self._read = min(self._read, self._chain.head.number), self._chain.head.number
        for number in range(start + 1, self._read + 1):
            block = self._chain.block(number)
            for mined in () if block is None else block.mined:
                if self._is_reply(mined.transaction) and self._random.random() < self._share:
                    self._copy(mined.transaction)

    def _is_reply(self, transaction: Transaction) -> bool:
        ours = transaction.sender == self._dependencies.sender.address and transaction.hash not in self._own
        return ours and self._dependencies.generation_events.replied(transaction.data) is not None

    def _copy(self, reply: Transaction) -> None:
        chain, key = self._chain, self._dependencies.sender
        nonce = chain.intake.pending_nonce(key.address)
        copy = Eip1559Transaction(
            chain.chain_id, nonce, reply.tip, reply.max_fee, reply.gas, reply.to, 0, reply.data
        )
        raw, own_hash = sign_transaction(copy, key)
        self._own.add(own_hash)
        try:
            chain.intake.submit(raw)
        except NodeError:
            self._own.discard(own_hash)


def _second_sender(scene: DrillScene, name: str, body: Copies) -> End:
    del name
    return appended(scene.each_block, _SecondSender(scene, body.share).look)


CHAIN_DRILLS: tuple[Drill[Any], ...] = (
    Drill(
        "hang", Target.CHAIN, RpcCalls, _hang,
        "Calls get no answer; others on the same connection do. With `one`, only calls about the first affected reply.",
        "The row waits for a later look, the others go on; a node that answers nothing at all is dropped after 10 s and "
        "named after 20 s.",
    ),
    Drill(
        "error", Target.CHAIN, RefusedCalls, _refuse,
        "Calls get this JSON-RPC error.",
        "A refusal that says nothing about the request is a missing answer: asked again later, named in an alert. That is critical where "
        "logs cannot be read or no request of a kind passes its checks; of replies alone it is a warning, however many wait.",
    ),
    Drill(
        "answer", Target.CHAIN, LyingNode, _lie,
        "Calls get this result and are not executed: a wild estimate, a head of 2^63−1, a chain id of 5,000 digits.",
        "A result that cannot be true is refused at the edge and named; one that may be true is asked for again before money is spent. "
        "The chain id is looked at with each connection. `0x` to an `eth_call` of the host chain says that a wallet is no contract, "
        "which rejects its request.",
    ),
    Drill(
        "batch-limit", Target.CHAIN, Limit, _batch_limit,
        "The node refuses batches of more calls as a whole, as geth does.",
        "Batches are split until the node takes them; nothing waits longer than one round. Logs need batches of 3: a lower limit is "
        "named.",
    ),
    Drill(
        "fees", Target.CHAIN, WildFees, _fees,
        "Nodes report these fees, `times` times or until the end; with `really` the chain requires them.",
        "Within the limits of the options the replies are sent at that price; beyond them they wait, with a critical alert.",
    ),
    Drill(
        "short-estimate", Target.CHAIN, Percent, _short_estimate,
        "`eth_estimateGas` returns this share of the needed gas, as when other nodes' replies make ours dearer: replies run out of gas.",
        "The connector detects out of gas by the gas used and sends the reply again with more. An event reports it, no alert.",
    ),
    Drill(
        "finality", Target.CHAIN, Finality, _finality,
        "The chain stops finalizing; with `known` false its nodes do not know the tag.",
        "Key management waits, and is named once Ethereum's finalized block is 45 minutes behind its head; replies stay `included`. "
        "An alert names a node without the tag where key management needs it; replies use the confirmations option instead.",
    ),
    Drill(
        "lag", Target.CHAIN, LaggingNode, _lag,
        "The nodes stay that many blocks behind.",
        "The connector discards answers about blocks that a node lacks; the cursor waits, without an alert.",
    ),
    Drill(
        "stall", Target.CHAIN, DrillBody, _stall,
        "The chain makes no blocks. The sequencer answers no broadcast, and drops transactions that waited for 12 s.",
        "No alert for the head, since a chain that nobody uses makes no blocks: see `kmsconn_head_age_seconds`. Replies on their way are "
        "named, repeated with the same bytes, and then signed again for more where there is a fee market.",
    ),
    Drill(
        "balance", Target.CHAIN, Balance, _balance,
        "The connector's account has this many wei.",
        "Replies wait; a critical alert names the account, its balance and the cost of a reply.",
    ),
    Drill(
        "pool", Target.CHAIN, PoolChoice, _pool,
        "Another pool accepts the transactions: `arbitrum`, `arbitrum at once` or `geth`; waiting ones are lost.",
        "The connector broadcasts bytes that no node has again.",
    ),
    Drill(
        "misbehave", Target.CHAIN, Misbehaviour, _misbehave,
        "One of the other faults of a node, by the names of `Fault` in `kmsconn/emulator/node_faults.py`.",
        "See docs/outcomes.md, *Hearing* and *Reply*. Replies whose receipts a node never finds look like those of another connector.",
    ),
    Drill(
        "reorganise", Target.GATEWAY, Reorganisation, _reorganise,
        "The last blocks are replaced. Everything comes again, unless it is dropped; with `reuse_ids` other requests have the same ids. "
        "The end restores the old branch if its root still exists.",
        "The fork is found and read again from there; other content is another request, and a reply that is gone is sent again. "
        "Where a Core still holds other content under reused ids, those wait until its restart (`other-content`).",
    ),
    Drill(
        "second-sender", Target.GATEWAY, Copies, _second_sender,
        "Another process has the connector's key and sends replies a second time.",
        "An event names each reply whose nonce another process used, no alert; the reply is confirmed by the contract, or sent again.",
    ),
)  # fmt: skip
