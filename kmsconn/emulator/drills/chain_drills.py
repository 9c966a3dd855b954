"""Drills of chains and their nodes: calls that hang, fail or lie, limits, fees, finality, lag, and reorganisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Literal

from kmsconn.emulator.blocks import Branch, EmulatedTransaction
from kmsconn.emulator.chain import EmulatedChain, keep_all
from kmsconn.emulator.drills.drill import (
    Drill,
    DrillError,
    DrillScene,
    End,
    Target,
    appended,
    changing,
    together,
)
from kmsconn.emulator.node_faults import (
    INVALID_PARAMS,
    CallFault,
    FalseResults,
    HangingCalls,
    Honest,
    Misbehaviour,
    NodeError,
    RefusedCalls,
    ShortEstimate,
)
from kmsconn.emulator.pool import PoolKind, pool_of
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity, quantity
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction, sign_transaction


class ChainDrill(Drill, frozen=True):
    """On the nodes of a chain."""

    target = Target.CHAIN


class BatchLimit(ChainDrill, frozen=True):
    """The node refuses batches of more calls as a whole, as geth does.

    Batches are split until the node takes them; nothing waits longer than one round. Logs need batches of 3: a lower limit is
    named.
    """

    name = "batch-limit"
    calls: int

    def put_on(self, scene: DrillScene, name: str) -> End:
        return scene.on_nodes(name, lambda node: changing(node.limits, "batch", self.calls))


class WildFees(CallFault, frozen=True):
    """Nodes report these fees, `times` times or until the end; with `really` the chain requires them.

    Within the limits of the options the replies are sent at that price; beyond them they wait, with a critical alert.
    """

    name = "fees"
    base_fee: int | str | None = None  # in wei, as number or hex text
    priority_fee: int | str | None = None
    really: bool = False

    def put_on(self, scene: DrillScene, name: str) -> End:
        base, _ = self._fees()
        end = super().put_on(scene, name)
        if not self.really or base is None:
            return end
        return together(end, changing(scene.chain(name), "base_fee", base))

    def meant(self, method: str, _params: Sequence[Any]) -> bool:
        return method in _FEES

    def act(self, method: str, honest: Honest) -> Any:
        return _FEES[method](honest(), *self._fees())

    def _fees(self) -> tuple[int | None, int | None]:
        return _wei("base_fee", self.base_fee), _wei("priority_fee", self.priority_fee)


def _tell_price(told: Any, base: int | None, tip: int | None) -> Any:
    return told if base is None else quantity(base + (tip or 0))


def _tell_block(told: Any, base: int | None, _tip: int | None) -> Any:
    return told if told is None or base is None else {**told, "baseFeePerGas": quantity(base)}


def _tell_history(told: Any, base: int | None, tip: int | None) -> Any:
    fees = told["baseFeePerGas"] if base is None else [quantity(base)] * len(told["baseFeePerGas"])
    told = {**told, "baseFeePerGas": fees}
    if tip is None or "reward" not in told:
        return told
    return {**told, "reward": [[quantity(tip)] * len(block) for block in told["reward"]]}


_FEES: dict[str, Callable[[Any, int | None, int | None], Any]] = {
    "eth_gasPrice": _tell_price,
    "eth_feeHistory": _tell_history,
    "eth_getBlockByNumber": _tell_block,
}


def _wei(field: str, text: int | str | None) -> int | None:
    try:
        return from_quantity(text) if isinstance(text, str) else text
    except ValueError as error:
        raise DrillError(field, str(error), "write a number, or hex text such as 0x3b9aca00") from error


class StalledFinality(ChainDrill, frozen=True):
    """The chain stops finalizing; with `known` false its nodes do not know the tag.

    Key management waits, and is named once Ethereum's finalized block is 45 minutes behind its head; replies stay `included`.
    An alert names a node without the tag where key management needs it; replies use the confirmations option instead.
    """

    name = "finality"
    known: bool = True

    def put_on(self, scene: DrillScene, name: str) -> End:
        chain = scene.chain(name)
        if self.known:
            return changing(chain.finality, "stands_at", chain.finality.newest(chain.head.number))
        message = "invalid block tag: finalized"
        return RefusedCalls(containing='"finalized"', code=INVALID_PARAMS, message=message).put_on(
            scene, name
        )


class LaggingNodes(ChainDrill, frozen=True):
    """The nodes stay that many blocks behind.

    The connector discards answers about blocks that a node lacks; the cursor waits, without an alert.
    """

    name = "lag"
    blocks: int = 5
    node: int | None = None  # of its nodes; all without a number

    def put_on(self, scene: DrillScene, name: str) -> End:
        return scene.on_nodes(name, lambda node: changing(node, "lag", self.blocks), self.node)


class StalledChain(ChainDrill, frozen=True):
    """The chain makes no blocks. The sequencer answers no broadcast, and drops transactions that waited for 12 s.

    No alert for the head, since a chain that nobody uses makes no blocks: see `kmsconn_head_age_seconds`. Replies on their way are
    named, repeated with the same bytes, and then signed again for more where there is a fee market.
    """

    name = "stall"
    burst: int = 0  # blocks that are made at once at its end

    def put_on(self, scene: DrillScene, name: str) -> End:
        chain = scene.chain(name)
        return together(partial(chain.mine_many, self.burst), changing(chain, "stalled", True))


class Balance(ChainDrill, frozen=True):
    """The connector's account has this many wei.

    Replies wait; a critical alert names the account, its balance and the cost of a reply.
    """

    name = "balance"
    wei: int = 0

    def put_on(self, scene: DrillScene, name: str) -> End:
        chain, owner = scene.chain(name), scene.dependencies.sender.address
        before = chain.evm.account(owner).balance
        chain.evm.set_balance(owner, self.wei)
        return lambda: chain.evm.set_balance(owner, before)


class OtherPool(ChainDrill, frozen=True):
    """Another pool accepts the transactions: `arbitrum`, `arbitrum at once` or `geth`; waiting ones are lost.

    The connector broadcasts bytes that no node has again.
    """

    name = "pool"
    kind: PoolKind = "geth"

    def put_on(self, scene: DrillScene, name: str) -> End:
        return changing(scene.chain(name).intake, "pool", pool_of(self.kind))


class Reorganisation(Drill, frozen=True):
    """The last blocks are replaced. Everything comes again, unless it is dropped; with `reuse_ids` other requests have the same ids.
    The end restores the old branch if its root still exists.

    The fork is found and read again from there; other content is another request, and a reply that is gone is sent again.
    Where a Core still holds other content under reused ids, those wait until its restart (`other-content`).
    """

    name, target = "reorganise", Target.GATEWAY
    blocks: int
    reuse_ids: bool = False
    drop: Literal["", "requests", "replies", "everything"] = ""
    shorter: bool = False  # no blocks come in place of the replaced ones: the head goes back

    def put_on(self, scene: DrillScene, name: str) -> End:
        chain = scene.chain(name)
        deepest = chain.head.number - chain.history.pruned_before
        if not 0 < self.blocks <= deepest:
            reason = f"the chain can lose 1 to {deepest} blocks now"
            raise DrillError("blocks", reason, "name fewer, or wait for more")
        shorter = self.blocks if self.shorter else 0
        branch = chain.reorg(self.blocks, drop=self._dropping(scene), shorter=shorter)
        if self.reuse_ids:
            requested = scene.dependencies.generation_events.requested
            for mined in (mined for block in branch.blocks for mined in block.mined):
                if any(requested(log.topics) is not None for log in mined.logs):
                    scene.users.any()
        return lambda: _put_back(chain, branch)

    def _dropping(self, scene: DrillScene) -> Callable[[EmulatedTransaction], bool]:
        requests = self.reuse_ids or self.drop in {"requests", "everything"}
        replies = self.reuse_ids or self.drop in {"replies", "everything"}
        if not (requests or replies):
            return keep_all
        contract = scene.dependencies.decryption.address

        def is_dropped(transaction: EmulatedTransaction) -> bool:
            is_reply = scene.dependencies.generation_events.replied(transaction.data) is not None
            return transaction.to == contract and (replies if is_reply else requests)

        return is_dropped


def _put_back(chain: EmulatedChain, branch: Branch) -> None:
    """Let the old branch return where its root still stands."""
    if chain.history.carries(branch) and chain.head.number > branch.root:
        chain.restore(branch)


class SecondSender(Drill, frozen=True):
    """Another process has the connector's key and sends replies a second time.

    A critical alert says that another connector uses the key; replies are confirmed by the contract, or sent again.
    """

    name, target = "second-sender", Target.GATEWAY
    share: float = 1.0

    def put_on(self, scene: DrillScene, _name: str) -> End:
        return appended(scene.each_block, _Copying(scene, self.share).look)


class _Copying:
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

    def _is_reply(self, transaction: EmulatedTransaction) -> bool:
        ours = transaction.sender == self._dependencies.sender.address and transaction.hash not in self._own
        return ours and self._dependencies.generation_events.replied(transaction.data) is not None

    def _copy(self, reply: EmulatedTransaction) -> None:
        fees = {"tip": reply.tip, "max_fee": reply.max_fee, "gas": reply.gas}
        sent = transact(self._chain, self._dependencies.sender, reply.to, reply.data, **fees)
        self._own |= set() if sent is None else {sent}


def transact(
    chain: EmulatedChain,
    key: PrivateKey,
    to: Address,
    data: bytes = b"",
    *,
    tip: int = 1,
    max_fee: int = 10**10,
    gas: int = 100_000,
) -> bytes | None:
    """Sign a transaction on the nonce that is next and submit it; return its hash, None where a node refuses it."""
    nonce = chain.intake.pending_nonce(key.address)
    raw, own_hash = sign_transaction(Transaction(chain.chain_id, nonce, tip, max_fee, gas, to, 0, data), key)
    try:
        chain.intake.submit(raw)
    except NodeError:
        return None
    return own_hash


CHAIN_DRILLS: tuple[type[Drill], ...] = (
    HangingCalls, RefusedCalls, FalseResults, BatchLimit, WildFees, ShortEstimate, StalledFinality, LaggingNodes, StalledChain,
    Balance, OtherPool, Misbehaviour, Reorganisation, SecondSender,
)  # fmt: skip
