"""What is true on the emulated gateway, read from its blocks and from nothing that the connector says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.dependencies import EmulatedDependencies, GenerationEvents
from kmsconn.emulator.evm import NodeView
from kmsconn.ethereum.abi import Log
from kmsconn.testing.doubles import Excuse, no_excuse


@attrs.frozen
class GroundTruthReport:
    """Requests of the canonical chain by name, answered by this node, still open, and doubled; for answered ones the blocks it took.

    ``doubled``: a reply of ours was included although an earlier one of the same id had succeeded; the contract reverts it, but it
    was paid. A reply that failed *before* the one that succeeded (out of gas, another content under the id) is none, nor is one that
    has an excuse (``doubles``).
    """

    requested: tuple[int, ...]
    answered: tuple[int, ...]
    doubled: tuple[int, ...]
    open: tuple[int, ...]
    blocks: Mapping[int, int]


def read_ground_truth(dependencies: EmulatedDependencies, excuse: Excuse = no_excuse) -> GroundTruthReport:
    """Read all blocks of the gateway. A request that left the chain with its block is not requested."""
    begun = {
        name_of(dependencies.generation_events, log): log.block_number for log in requests_of(dependencies)
    }
    answered: dict[int, Mined] = {}
    doubled: list[int] = []
    for identifier, mined in replies_of(dependencies):
        if identifier in answered:
            doubled += [] if excuse(answered[identifier], mined) else [identifier]
        elif mined.outcome.status == 1:
            answered[identifier] = mined
    open_ = tuple(identifier for identifier in begun if identifier not in answered)
    blocks = {one: mined.block_number - begun.get(one, mined.block_number) for one, mined in answered.items()}
    return GroundTruthReport(tuple(begun), tuple(sorted(answered)), tuple(doubled), open_, blocks)


def requests_of(dependencies: EmulatedDependencies) -> Iterator[Log]:
    """Yield the readable request events of the canonical chain, oldest first."""
    chain, contract = dependencies.gateway, dependencies.decryption.address
    for block in chain.history.blocks_with_logs(0, chain.head.number):
        for mined in block.mined:
            for log in mined.logs:
                if log.address == contract and is_request(dependencies.generation_events, log):
                    yield log


def is_request(generation_events: GenerationEvents, log: Log) -> bool:
    """Say whether a log of the contract for decryptions is a request that can be read."""
    # an id of zero is the mark of a log that nobody can read (faults.StrangeLog)
    return log.topics[0] in generation_events.requests and any(log.topics[1])


def name_of(generation_events: GenerationEvents, log: Log) -> int:
    """Return the name of a request, by its log."""
    name = generation_events.requested(log.topics)
    assert name is not None, "a request"
    return name


def replies_of(
    dependencies: EmulatedDependencies, view: NodeView | None = None
) -> Iterator[tuple[int, Mined]]:
    """Yield our replies in a view of the gateway, None: the canonical chain. Oldest first, each with the name of what it answers."""
    chain = dependencies.gateway if view is None else view
    for number in range(chain.head.number + 1):
        block = chain.block(number)
        for mined in block.mined if block is not None else ():
            identifier = reply_to(dependencies, mined)
            if identifier is not None:
                yield identifier, mined


def reply_to(dependencies: EmulatedDependencies, mined: Mined) -> int | None:
    """Return the name of the request that a transaction answers for us; None for any other transaction."""
    transaction = mined.transaction
    ours = (
        transaction.sender == dependencies.sender.address
        and transaction.to == dependencies.decryption.address
    )
    return dependencies.generation_events.replied(transaction.data) if ours else None
