"""Whether a user's contract takes a signature (ERC-1271): how its answer, its revert and its thirst for gas are read. Never asks it.

Source: fhevm-0.14.md, 3.4; outcomes: rows "check".
"""

from __future__ import annotations

import re
from functools import partial
from typing import NoReturn

from kmsconn.errors import NotYet, SignatureNotTaken, WrongSignature
from kmsconn.protocols.fhevm import views
from kmsconn.protocols.queries import ViewCall

WALLET_SIGNATURE_GRACE = 600.0  # seconds that a contract wallet may say no to its user's signature
_MAGIC_WORD = 32


def wallet_agrees(view: ViewCall[bytes], age: float, *, domain_confirmed: bool) -> ViewCall[None]:
    """Return the question with its answer judged: SignatureNotTaken at first, WrongSignature once a request has that ``age``.

    Under a domain that its contract has not confirmed no signature is wrong: the request waits.
    """
    end = partial(_end, domain_confirmed)

    def refuse(what: str) -> NoReturn:
        if age > WALLET_SIGNATURE_GRACE:
            end(f"{what}, for {WALLET_SIGNATURE_GRACE:g} s by now")
        raise SignatureNotTaken(what)

    def read(data: bytes) -> None:
        if not data:
            end("the signature is not the user's, and the user is no contract")
        if len(data) < _MAGIC_WORD or data[:4] != views.MAGIC_VALUE:
            refuse("the user's contract refuses the signature")

    def on_error(message: str, data: bytes | None) -> None:
        if data is not None and "revert" in message:
            refuse("the user's contract reverts on the signature")
        if _OUT_OF_GAS.search(message):
            refuse(
                f"the user's contract needs more than {view.gas} gas for the signature (erc1271_gas_limit)"
            )

    return ViewCall(view.chain_id, view.to, view.data, read, gas=view.gas, on_error=on_error)


def _end(domain_confirmed: bool, what: str) -> NoReturn:
    if not domain_confirmed:
        raise NotYet(f"{what}; but Decryption has not confirmed its EIP-712 domain within an hour")
    raise WrongSignature(what)


# How nodes say that the gas of an eth_call was used up, or does not even pay for the calldata: geth and nitro ("out of gas", "intrinsic
# gas too low", "insufficient gas for floor data gas cost"), reth and anvil ("OutOfGas", "gas required exceeds"), besu
# ("INSUFFICIENT_GAS"), nethermind ("OutOfGas").
_OUT_OF_GAS = re.compile(
    r"out[ _]?of[ _]?gas|intrinsic gas|insufficient[ _]gas|gas required exceeds|gas too low", re.IGNORECASE
)
