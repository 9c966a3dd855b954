"""What is true on the emulated gateway, read from its blocks and from nothing that the connector says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.neighbourhood import Neighbourhood
from kmsconn.ethereum.logs import Log
from kmsconn.protocols.fhevm_014 import events
from kmsconn.protocols.fhevm_014.replies import PUBLIC_RESPONSE, USER_RESPONSE

_REPLIES = {function.selector: function for function in (PUBLIC_RESPONSE, USER_RESPONSE)}


@attrs.frozen
class Truth:
    """Ids requested in the canonical chain, answered by this node, still open, and doubled; for each answered one the blocks it took.

    ``doubled``: a reply of ours was included although an earlier one of the same id had succeeded; the contract reverts it, but it
    was paid. A reply that failed *before* the one that succeeded (out of gas, another content under the id) is none.
    """

    requested: tuple[int, ...]
    answered: tuple[int, ...]
    doubled: tuple[int, ...]
    open: tuple[int, ...]
    blocks: Mapping[int, int]


def truth_of(neighbours: Neighbourhood) -> Truth:
    """Read all blocks of the gateway. A request that left the chain with its block is not requested."""
    begun = {int.from_bytes(log.topics[1]): log.block_number for log in requests_of(neighbours)}
    answered: dict[int, int] = {}
    doubled: list[int] = []
    for identifier, mined in replies_of(neighbours):
        if identifier in answered:
            doubled.append(identifier)
        elif mined.outcome.status == 1:
            answered[identifier] = mined.block_number - begun.get(identifier, mined.block_number)
    open_ = tuple(identifier for identifier in begun if identifier not in answered)
    return Truth(tuple(begun), tuple(sorted(answered)), tuple(doubled), open_, answered)


def requests_of(neighbours: Neighbourhood) -> Iterator[Log]:
    """Yield the readable request events of the canonical chain, oldest first."""
    chain, contract = neighbours.gateway, neighbours.decryption.address
    for block in chain.blocks_with_logs(0, chain.head.number):
        for mined in block.mined:
            yield from (log for log in mined.logs if log.address == contract and is_request(log))


def is_request(log: Log) -> bool:
    """Say whether a log of the Decryption contract is a request that can be read."""
    # an id of zero is the mark of a log that nobody can read (acts.StrangeLog)
    return log.topics[0] in events.TOPICS and any(log.topics[1])


def replies_of(neighbours: Neighbourhood, first: int = 0) -> Iterator[tuple[int, Mined]]:
    """Yield our replies in the canonical chain from a block on, oldest first, each with the id that it answers."""
    chain = neighbours.gateway
    for number in range(first, chain.head.number + 1):
        block = chain.block(number)
        for mined in block.mined if block is not None else ():
            identifier = reply_to(neighbours, mined)
            if identifier is not None:
                yield identifier, mined


def reply_to(neighbours: Neighbourhood, mined: Mined) -> int | None:
    """Return the id that a transaction answers for us; None for any other transaction."""
    transaction = mined.transaction
    ours = transaction.sender == neighbours.sender.address and transaction.to == neighbours.decryption.address
    if not ours or transaction.data[:4] not in _REPLIES:
        return None
    return int.from_bytes(transaction.data[4:36])
