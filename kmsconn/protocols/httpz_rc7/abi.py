"""The contracts of the first generation as ABI objects, with the revisions that came before and after. Never asks a chain.

The main revision has ``bytes32`` handles; on the wire they are the same 32 bytes as the ``uint256`` handles of rc7.
Source: httpz-rc7.md, section 0.
"""

from __future__ import annotations

from kmsconn.ethereum.abi import Abi, Error
from kmsconn.model.profiles import HTTPZ_RC7
from kmsconn.protocols.published import as_contracts, read_groups, union_of_errors

_groups = {name: as_contracts(group) for name, group in read_groups(HTTPZ_RC7).items()}
CONTRACTS: dict[str, Abi] = _groups["contracts"]
"""Every contract of the main revision by its name."""

DECRYPTION_MANAGER = CONTRACTS["DecryptionManager"]
HTTPZ = CONTRACTS["HTTPZ"]
KEY_MANAGER = CONTRACTS["KeyManager"]

RC4: dict[str, Abi] = _groups["rc4"]
"""The interfaces of 14 March: no user address in user requests, flat values from getters."""

RC7: dict[str, Abi] = _groups["rc7"]
"""The interfaces of 27 March: handles are numbers, coprocessors and nodes have a ``daUrl``."""

RC9 = _groups["rc9_getters"]["HTTPZ"]
"""The getters of HTTPZ from 9 April on; nothing else changed."""

ALL_ERRORS: dict[bytes, Error] = union_of_errors(
    contract for group in _groups.values() for contract in group.values()
)
"""Errors of all contracts and revisions by selector: an error of a called contract comes through unchanged."""
