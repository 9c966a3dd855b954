"""Looks whether the nodes agree on what this node has replied to for long: a key, a CRS, an epoch. Ends no request.

A contract takes the reply of each node and counts those that are equal. Where nodes say different things it waits for ever and tells
nobody, and every node's own reply is final: of an epoch, for example, where the nodes name different preprocessing ids of a migrated key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import attrs

from kmsconn.chain.asking import run_query_plan
from kmsconn.chain.port import Rpc
from kmsconn.errors import RequestError, Retryable, Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.values import Row
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertRaised
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import NeedsAgreement
from kmsconn.protocols.profile import Profile
from kmsconn.requests.rows import request_of

NOT_AGREED = "not-agreed"
LONG = 3600.0  # seconds since this node's reply was final
INTERVAL = 600.0  # seconds between looks
NEWEST = 4  # requests of a kind that are looked at: a contract makes one at a time


@attrs.define
class OpenAgreements:
    """The watch over replies that the contract has and no agreement has come of."""

    profile: Profile
    journal: Journal
    chains: Mapping[int, Rpc]
    tx_sender: Address
    wall: Callable[[], float]
    board: Board

    async def look(self) -> float:
        """Look once; of what a chain does not answer nothing changes."""
        rows = [row for kind in self._agreed() for row in await self._long_final(kind)]
        text = f"this node's reply is final for more than {LONG / 3600:g} h, and the nodes have not agreed"
        found = []
        for row in rows:
            is_open = await self._is_open(row)
            if is_open or (is_open is None and (_name(row), NOT_AGREED) in self.board):
                found.append(AlertRaised(_name(row), NOT_AGREED, text))
        self.board.show(NOT_AGREED, found)
        return INTERVAL

    def _agreed(self) -> list[Kind]:
        return [kind for kind, one in self.profile.operations.items() if isinstance(one, NeedsAgreement)]

    async def _long_final(self, kind: Kind) -> list[Row]:
        endings = await until_kept(lambda: self.journal.run(queries.endings, (kind,), NEWEST))
        final = [one.rid for one in endings[kind] if one.state is State.FINALIZED]
        rows = [await until_kept(partial(self.journal.run, queries.row, rid)) for rid in final]
        before = self.wall() - LONG
        return [row for row in rows if row is not None and (row.times.closed or math.inf) < before]

    async def _is_open(self, row: Row) -> bool | None:
        """Say whether the contract still waits for the nodes; None where nobody can say."""
        try:
            request = request_of(self.profile, row)
            planned = self.profile.operations[row.kind].standing(request.content, self.tx_sender)
            if planned is None:
                return False
            return await run_query_plan(self.chains[planned[0]], planned[1])
        except (Retryable, Undecodable):
            return None
        except RequestError:  # aborted or destroyed: it is over
            return False


def _name(row: Row) -> str:
    return f"{row.kind} {id_name(row.id)}"
