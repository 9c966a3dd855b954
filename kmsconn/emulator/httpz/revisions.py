"""What the interfaces of spring 2025 do not have in common, as data. Runs nothing.

rc4 is not here: no connector of this generation can answer its user requests. Source: httpz-rc7.md, section 0 and 2.2.
"""

from __future__ import annotations

from typing import Final

import attrs

from kmsconn.ethereum.abi import Abi
from kmsconn.protocols.httpz_rc7 import abi


@attrs.frozen
class Revision:
    """One state of the interfaces.

    ``numeric``: handles are numbers. ``long``: nodes and coprocessors have a ``daUrl`` too. ``roles``: a stranger is refused
    by the name of the role that he has not.
    """

    manager: Abi
    httpz: Abi
    coprocessor: str
    node: str
    senders: str
    numeric: bool = False
    long: bool = False
    roles: bool = False


_FIRST = ("coprocessors", "kmsNodes", "getAllCoprocessorTxSenderAddresses")
_RENAMED = ("getCoprocessor", "getKmsNode", "getCoprocessorTxSenders")

REVISIONS: Final = {
    "main": Revision(abi.DECRYPTION_MANAGER, abi.HTTPZ, *_FIRST),
    "rc7": Revision(
        abi.RC7["DecryptionManager"], abi.RC7["HTTPZ"], *_FIRST, numeric=True, long=True, roles=True
    ),
    "rc9": Revision(abi.DECRYPTION_MANAGER, abi.RC9, *_RENAMED),
}
"""27 March (rc7), 7 April (main, the one that the connector of that era was built for) and 9 April (rc9)."""
