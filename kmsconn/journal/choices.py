"""What operations choose for requests, kept from before their first start. Never chooses."""

from __future__ import annotations

from kmsconn.ethereum.addresses import Address
from kmsconn.journal.database import Database
from kmsconn.journal.operations import reads
from kmsconn.journal.rows import pack_id
from kmsconn.model.requests import Kind

_KEEP = "UPDATE request SET choice = ? WHERE rid = ? AND choice = ''"
_KEPT = "SELECT choice FROM request WHERE rid = ?"
_OF_REQUEST = (
    "SELECT choice FROM request INDEXED BY request_identity WHERE chain_id = ? AND contract = ? AND id = ? "
    "AND kind = ? AND on_chain = 1 ORDER BY rid DESC LIMIT 1"
)


def keep(db: Database, rid: int, choice: str) -> str:
    """Keep the choice for a row, and return the one that holds: the first one that was kept. Repeating: changes nothing."""
    db.execute(_KEEP, (choice, rid))
    found = db.execute(_KEPT, (rid,)).fetchone()
    return choice if found is None else str(found[0])


@reads
def of_request(db: Database, chain_id: int, contract: Address, kind: Kind, identifier: int) -> str:
    """Return the choice that is kept for a request on chain; empty where there is none."""
    found = db.execute(_OF_REQUEST, (chain_id, contract, pack_id(identifier), kind.value)).fetchone()
    return "" if found is None else str(found[0])
