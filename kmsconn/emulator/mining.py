"""From transactions to mined transactions: running one, and giving a block's transactions their places. Keeps nothing."""

from __future__ import annotations

from kmsconn.emulator.blocks import ExecutionOutcome, Mined, Transaction
from kmsconn.emulator.execution import BlockContext, Contracts, Frame, Meter, OutOfGas, Reverted, run
from kmsconn.emulator.node_error import revert_text
from kmsconn.emulator.state import Storage
from kmsconn.ethereum.abi import Log


def execute(
    storage: Storage, contracts: Contracts, context: BlockContext, transaction: Transaction
) -> ExecutionOutcome:
    """Run a transaction's body. The writes of a failed one are still in ``storage``: the caller takes them back."""
    meter = Meter(transaction.gas)
    frame = Frame(storage, context, transaction.to, transaction.sender, transaction.data, meter)
    try:
        if transaction.action is None:
            run(contracts, frame)
        else:
            transaction.action(frame)
    except Reverted as refusal:
        text = f"execution reverted{revert_text(refusal.data)}"
        return ExecutionOutcome(0, meter.used, revert_data=refusal.data, error=text)
    except OutOfGas:
        return ExecutionOutcome(0, meter.limit, error="out of gas")
    return ExecutionOutcome(1, meter.used, tuple(frame.logs))


def place(
    executed: list[tuple[Transaction, ExecutionOutcome]],
    context: BlockContext,
    own_hash: bytes,
    base_fee: int | None,
) -> tuple[Mined, ...]:
    """Give the transactions of a block their places."""
    placed: list[Mined] = []
    gas, log_index = 0, 0
    for index, (transaction, outcome) in enumerate(executed):
        gas += outcome.gas_used
        logs = tuple(
            Log(e.address, e.topics, e.data, context.number, own_hash, transaction.hash, log_index + position)
            for position, e in enumerate(outcome.logs)
        )
        log_index += len(logs)
        price = transaction.price(base_fee)
        placed.append(
            Mined(transaction, outcome, context.number, own_hash, context.timestamp, index, price, gas, logs)
        )
    return tuple(placed)
