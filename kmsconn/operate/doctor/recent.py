"""Finds the newest decryption requests on the chain, for the probes of Core, buckets and replies. Reads only."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kmsconn.chain.port import RpcError
from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.model.requests import Content
from kmsconn.operate.doctor import nodes
from kmsconn.operate.doctor.chains import CheckedChain
from kmsconn.operate.doctor.diagnosis import ok, skipped
from kmsconn.operate.doctor.probing import Discovery, Probe
from kmsconn.protocols.profile import Profile, Subscription

CHECKED = "newest decryption requests"
ENOUGH = 8  # requests
READS = 20  # of eth_getLogs, each of get_logs_batch_size blocks


@attrs.frozen
class RecentRequests:
    """The newest requests, the newest first, and how many blocks were read for them."""

    contents: tuple[Content, ...]
    blocks: int


def recent_probe(
    profile: Profile, subscription: Subscription, chain: CheckedChain, width: int, right: Probe[bool]
) -> Probe[RecentRequests]:
    """Return the probe that looks for requests backwards from the newest block, ``width`` blocks at once.

    ``right``: their contract is there.
    """

    async def look() -> Discovery[RecentRequests]:
        found = await _find(profile, subscription, chain, width)
        if not found.contents:
            missing = f"there was no decryption request in the last {found.blocks} blocks"
            return Discovery(None, [skipped(CHECKED, missing)], missing)
        return Discovery(found, [ok(CHECKED, f"{len(found.contents)} in the last {found.blocks} blocks")])

    return Probe(CHECKED, look, (chain.usable, chain.head, right), limit=30.0)


async def _find(profile: Profile, where: Subscription, chain: CheckedChain, width: int) -> RecentRequests:
    contents: dict[int, Content] = {}
    last, read = chain.head.value.number, 0
    for _ in range(READS):
        if last < 0 or len(contents) >= ENOUGH:
            break
        first = max(0, last - width + 1)
        try:
            logs = await nodes.logs_between(chain.rpc, where.contract, where.topics, first, last)
        except RpcError:
            width = max(1, width // 2)
            continue
        for content in reversed(_read(profile, logs)):
            contents.setdefault(content.id, content)
        read, last = read + last - first + 1, first - 1
    return RecentRequests(tuple(contents.values())[:ENOUGH], read)


def _read(profile: Profile, logs: Iterable[Log]) -> list[Content]:
    """Return the requests of some logs; what cannot be read is the connector's own matter."""
    found = []
    for log in logs:
        try:
            content = profile.decode(log)
        except Undecodable:
            continue
        found += [] if content is None else [content]
    return found
