"""The kinds of worlds that hostile answers are played in, and what is asked in each when."""

from __future__ import annotations

import attrs

from kmsconn.model.profiles import FHEVM, HTTPZ_RC7


@attrs.frozen
class Setting:
    """What kind of world it is, and what is asked in it when.

    ``keys`` are made meanwhile; a ``hard`` world has a Gateway of before EIP-1559 and a wallet in AWS KMS, and its first replies are
    mined with status 0, so that they are traced. In one with ``birth`` everybody is hostile from the start on; a start that is refused
    is repeated, as systemd does. Only what ``subjects`` match is hostile.
    """

    name: str = "websocket"
    profile: str = FHEVM
    websocket: bool = True
    keys: bool = False
    hard: bool = False
    birth: bool = False
    subjects: tuple[str, ...] = ("*",)
    before: tuple[str, ...] = ("public", "direct")
    during: tuple[str, ...] = ("unified", "public", "wallet")
    after: tuple[str, ...] = ("unified_delegated", "public")


_FIRST = ("public", "user")
_HARD = (
    "aws *",
    "gateway debug_traceTransaction",
    "gateway eth_gasPrice",
    "gateway eth_getTransactionByHash",
)
_AT_BIRTH = (
    "aws GetPublicKey",
    "gateway eth_getCode",
    "gateway eth_chainId",
    "gateway eth_call 0x0d8e6e2c",  # getVersion()
    "gateway eth_call 0x84b0196e",  # eip712Domain()
)
SETTINGS = {
    one.name: one
    for one in (
        Setting(),
        Setting("http", websocket=False),
        Setting("keys", keys=True),
        Setting("httpz", HTTPZ_RC7, before=_FIRST, during=(*_FIRST, "delegated"), after=_FIRST),
        Setting("hard", hard=True, during=("direct", "public", "delegated"), subjects=_HARD),
        Setting("birth", hard=True, birth=True, subjects=_AT_BIRTH),
        Setting(
            "httpz birth",
            HTTPZ_RC7,
            birth=True,
            before=_FIRST,
            during=_FIRST,
            after=_FIRST,
            subjects=_AT_BIRTH,
        ),
    )
}
"""The worlds, by name."""
