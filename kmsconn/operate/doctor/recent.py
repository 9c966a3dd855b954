"""Finds the newest decryption requests on the chain, for the probes of Core, buckets and replies. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from kmsconn.chain.port import RpcError
from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.model.requests import Content
from kmsconn.operate.doctor import nodes
from kmsconn.operate.doctor.chains import CheckedChain
from kmsconn.operate.doctor.diagnosis import Diagnosis, ok, skipped
from kmsconn.operate.doctor.probing import Fact, Probe
from kmsconn.protocols.profile import Profile, Subscription

CHECKED = "newest decryption requests"
ENOUGH = 8  # requests
READS = 20  # of eth_getLogs, each of get_logs_batch_size blocks


@attrs.frozen
class RecentRequests:
    """The newest requests, the newest first, and how many blocks were read for them."""

    contents: tuple[Content, ...]
    blocks: int


@attrs.frozen
class RecentProbe:
    """The probe that looks for requests backwards from the newest block, ``width`` blocks at once."""

    profile: Profile
    subscription: Subscription
    chain: CheckedChain
    width: int
    recent: Fact[RecentRequests]
    right: Fact[bool]
    """Whether the contract is there."""

    def probe(self) -> Probe:
        """Return it as a probe."""
        needs = (self.chain.usable, self.chain.head, self.right)
        return Probe(CHECKED, self._look, needs, gives=(self.recent,), limit=30.0)

    async def _look(self) -> Sequence[Diagnosis]:
        found = await self._find()
        if not found.contents:
            self.recent.lack(f"there was no decryption request in the last {found.blocks} blocks")
            return [skipped(CHECKED, self.recent.missing)]
        self.recent.learn(found)
        return [ok(CHECKED, f"{len(found.contents)} in the last {found.blocks} blocks")]

    async def _find(self) -> RecentRequests:
        contents: dict[int, Content] = {}
        last, read, width = self.chain.head.value.number, 0, self.width
        for _ in range(READS):
            if last < 0 or len(contents) >= ENOUGH:
                break
            first = max(0, last - width + 1)
            try:
                logs = await self._logs(first, last)
            except RpcError:
                width = max(1, width // 2)
                continue
            for content in reversed(_read(self.profile, logs)):
                contents.setdefault(content.id, content)
            read, last = read + last - first + 1, first - 1
        return RecentRequests(tuple(contents.values())[:ENOUGH], read)

    async def _logs(self, first: int, last: int) -> Sequence[Log]:
        where = self.subscription
        return await nodes.logs_between(self.chain.rpc, where.contract, where.topics, first, last)


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
