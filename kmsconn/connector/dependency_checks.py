"""Checks that every dependency answers, and that each contract is the one that is configured, of a version known here.

At the start a wrong dependency ends the start, and a silent one is waited for and named. Later a contract that is gone or has another
EIP-712 domain is an alert; a newer version is one from the start on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Never

import attrs
import trio

from kmsconn.chain.asking import ask, ask_all
from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.witness import WITNESSES
from kmsconn.errors import Down, Retryable, WrongContract
from kmsconn.ethereum.addresses import checksum
from kmsconn.journal.database import Binding, Database
from kmsconn.journal.journal import until_kept
from kmsconn.protocols.profile import ConfiguredContract, Spoken, Version
from kmsconn.requests.checker import CONFIRMED
from kmsconn.requests.components import Components

SILENT = "no-answer-yet"
AGAIN = 1.0  # seconds between looks at a dependency that does not answer

CONTRACTS_INTERVAL = 600.0  # seconds between looks
MISSING_INTERVAL = 60.0  # likewise, while one is missing
HOST_CONTRACTS_INTERVAL = 3600.0
"""Likewise on a host chain: its failures show in the alerts of the requests that wait."""
WRONG_CONTRACT = "wrong-contract"
NEWER_CONTRACT = "newer-contract"


async def wait_for_dependencies(
    components: Components, watches: Iterable[ContractWatch], ready: trio.Event
) -> None:
    """Set ``ready`` once every chain, the registry and every Core endpoint have answered.

    Raises StartRefused for a chain with another id than configured, a contract that is another or has another EIP-712 domain, or a
    registry nobody could trust.
    """
    async with trio.open_nursery() as nursery:
        for watch in watches:
            nursery.start_soon(watch.begin)
        nursery.start_soon(components.core_health.wait_served)
        nursery.start_soon(components.directory.wait_loaded)
    ready.set()


@attrs.define
class ContractWatch:
    """The watch over the configured contracts of one chain: their kinds, EIP-712 domains and versions."""

    components: Components
    endpoint: Endpoint
    _seen_at: float = attrs.field(factory=trio.current_time, init=False)

    @property
    def interval(self) -> float:
        """Seconds between looks."""
        heard = self.endpoint.chain_id in self.components.chain_contexts
        return CONTRACTS_INTERVAL if heard else HOST_CONTRACTS_INTERVAL

    async def keep_looking(self) -> Never:
        """Look again after each interval, and at once after the chain went back: a reset of the chain takes its contracts with it.

        Cancellation: at any time.
        """
        seen = self._generation
        due = trio.current_time() + self.interval
        while True:
            await trio.sleep(AGAIN)
            if self._generation != seen or trio.current_time() >= due:
                seen = self._generation
                due = await self.look() + trio.current_time()

    @property
    def _generation(self) -> int:
        """How often the chain went back; a chain that nothing is heard of is not followed."""
        followed = self.components.chain_contexts.get(self.endpoint.chain_id)
        return 0 if followed is None else followed.follower.generation

    async def begin(self) -> None:
        """Ask until the chain and its contracts are right; only then does a new journal say that it belongs to them.

        A chain that is gone has an alert of its own. Raises StartRefused. Repeating: the same.
        """
        components, endpoint, said = self.components, self.endpoint, "has not answered yet"
        while said:
            try:
                await endpoint.probe()
                await self._see()
                said = ""
            except Retryable as error:
                said = f"has not answered yet: {error}"
                text = None if isinstance(error, Down) else said
                components.board.set(SILENT, endpoint.name, text, remedy=error.remedy)
                await trio.sleep(AGAIN)
        components.board.set(SILENT, endpoint.name, None)
        confirmed = Binding.of(components.settings, components.tx_sender).confirmed_by(endpoint.chain_id)
        if confirmed:
            await until_kept(lambda: components.journal.run(Database.bind, confirmed))

    async def look(self) -> float:
        """Look once; a chain that does not answer has an alert of its own, and changes nothing here for an hour."""
        try:
            await self._see()
        except WrongContract as error:
            self._confirm_domain(-math.inf)
            self.components.board.set(WRONG_CONTRACT, self.endpoint.name, str(error))
        except Retryable as error:
            if trio.current_time() - self._seen_at > CONFIRMED:
                text = f"no contract has been confirmed for an hour: {error}"
                self.components.board.set(WRONG_CONTRACT, self.endpoint.name, text)
        else:
            self.components.board.set(WRONG_CONTRACT, self.endpoint.name, None)
        wrong = (self.endpoint.name, WRONG_CONTRACT) in self.components.board
        return MISSING_INTERVAL if wrong else self.interval

    async def _see(self) -> None:
        """Ask whether the contracts are those that are meant, again where one is not, and note it. Raises Retryable, StartRefused."""
        profile, chain_id = self.components.profile, self.endpoint.chain_id
        contracts = [one for one in profile.contracts() if one.chain_id == chain_id]
        try:
            versions = await self._versions(contracts)
        except WrongContract:
            await trio.sleep(AGAIN)
            versions = await self._versions(contracts)
        self._seen_at = trio.current_time()
        self._confirm_domain(self._seen_at)
        for contract, version in zip(contracts, versions, strict=True):
            self._note(contract, version)
            if profile.later_network is not None and contract.kind == profile.later_network[0]:
                await self._note_release(contract, version, profile.later_network[1])

    async def _versions(self, contracts: Sequence[ConfiguredContract]) -> Sequence[Version | None]:
        """Return the contracts' versions, once their domains have been compared."""
        domains = [one.domain for one in contracts if one.domain is not None]
        found: Sequence[Any] = await ask_all(self.endpoint, [*(one.identity for one in contracts), *domains])
        return found[: len(contracts)]

    def _confirm_domain(self, at: float) -> None:
        """Let signatures be judged by the configured domain of decryptions from ``at`` on, for an hour."""
        if self.endpoint is self.components.gateway.endpoint:
            self.components.checker.domain_confirmed_at = at

    async def _note_release(
        self, contract: ConfiguredContract, version: Version | None, first: Version
    ) -> None:
        """Let decryptions expire as a contract's release has it; ``first`` is the one from which they expire sooner.

        What is recorded keeps its deadline, so the sooner one needs the word of other nodes too. The later one costs nothing.
        """
        expiry = self.components.checker.expiry
        is_later = version is not None and version >= first
        if not is_later:
            expiry.later = False
        elif not expiry.later and await self._is_attested(contract, first):
            expiry.later = True

    async def _is_attested(self, contract: ConfiguredContract, first: Version) -> bool:
        """Say whether other nodes give a contract this version or a newer one too; not where none is to be had."""
        for chains in self.components.witnesses[:WITNESSES]:
            try:
                version = await ask(chains[self.endpoint.chain_id], contract.identity)
            except (Retryable, WrongContract):
                return False
            if version is None or version < first:
                return False
        return True

    def _note(self, contract: ConfiguredContract, version: Version | None) -> None:
        """Raise an alert for a contract of a version newer than is known here."""
        known = self.components.profile.spoken.get(contract.kind)
        name = f"{self.endpoint.name} {checksum(contract.address)}"
        self.components.board.set(NEWER_CONTRACT, name, _newer(contract, version, known))


def _newer(contract: ConfiguredContract, version: Version | None, known: Spoken | None) -> str:
    """Say that a contract is of a newer version than is known; nothing where it is not, or nobody knows."""
    if version is None or known is None or version[:2] <= known.newest:
        return ""
    said, newest = ".".join(map(str, version)), ".".join(map(str, known.newest))
    return f"{contract.kind} is of version {said}, and {newest} is the newest known here: this concerns {known.concerns}"
