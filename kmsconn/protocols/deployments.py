"""Whether the contract at a configured address is of the kind that is meant: each is asked for something that its kind alone answers.

An address without code answers a call with nothing, so that one question tells both. Raises ``WrongContract``, which names the option.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import attrs

from kmsconn.errors import NotYet, Undecodable, WrongContract
from kmsconn.ethereum.abi import Function
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.hexes import to_hex
from kmsconn.protocols.port import ViewCall

_VERSION = Function.from_item({"name": "getVersion", "inputs": (), "outputs": ({"type": "string"},)})
_DOMAIN = Function.from_item(
    {
        "name": "eip712Domain",
        "inputs": (),
        "outputs": tuple(
            {"type": kind}
            for kind in ("bytes1", "string", "string", "uint256", "address", "bytes32", "uint256[]")
        ),
    }
)
_NAME = 1


@attrs.frozen
class HasCode:
    """Ask for the code at an address, where a contract has nothing that all its versions answer."""

    kind: str
    option: str
    chain_id: int
    to: Address

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        return "eth_getCode", (to_hex(self.to), "latest")

    def understand(self, result: bytes) -> None:
        """Refuse an address without code."""
        if not result:
            _refuse(self.kind, self.option, (self.chain_id, self.to), "has no code")

    def refused(self, message: str, data: bytes | None) -> None:
        """Take no error for an answer."""


def has_version(kind: str, option: str, chain_id: int, address: Address) -> ViewCall[None]:
    """Ask a contract of fhevm for its version, which begins with the name of its kind."""

    def judge(values: tuple[Any, ...]) -> str:
        said: str = values[0]
        return "" if said.startswith(f"{kind} ") else f"says that it is {said[:64]!r}"

    return answers(_VERSION, kind, option, where=(chain_id, address), judge=judge)


def is_version_from(
    kind: str, least: tuple[int, int, int], chain_id: int, address: Address
) -> ViewCall[bool]:
    """Ask a contract of fhevm whether its version is ``least`` or a later one; one that cannot be read is none."""

    def read(data: bytes) -> bool:
        (said,) = _VERSION.decode_result(data)
        found = re.fullmatch(rf"{kind} v(\d{{1,6}})\.(\d{{1,6}})\.(\d{{1,6}})", said, re.ASCII)
        return found is not None and tuple(map(int, found.groups())) >= least

    return ViewCall(chain_id, address, _VERSION.encode(), read)


def has_domain(kind: str, option: str, chain_id: int, address: Address) -> ViewCall[None]:
    """Ask a contract for the name of its EIP-712 domain (EIP-5267)."""

    def judge(values: tuple[Any, ...]) -> str:
        return "" if values[_NAME] == kind else f"has the EIP-712 domain {values[_NAME][:64]!r}"

    return answers(_DOMAIN, kind, option, where=(chain_id, address), judge=judge)


def told_domain(chain_id: int, address: Address) -> ViewCall[tuple[Domain, ...]]:
    """Ask a contract for its EIP-712 domain (EIP-5267); there is none in the answer of a contract that does not tell it."""

    def read(data: bytes) -> tuple[Domain, ...]:
        if not data:
            return ()
        _, name, version, domain_chain_id, verifying_contract, *_ = _DOMAIN.decode_result(data)
        return (Domain(name, version, domain_chain_id, Address(verifying_contract)),)

    def untold(message: str, data: bytes | None) -> tuple[Domain, ...] | None:
        return () if not data and "revert" in message.lower() else None

    return ViewCall(chain_id, address, _DOMAIN.encode(), read, on_error=untold)


def answers(
    function: Function,
    kind: str,
    option: str,
    *,
    where: tuple[int, Address],
    judge: Callable[[tuple[Any, ...]], str] = lambda _: "",
) -> ViewCall[None]:
    """Ask a contract for what only its kind has; ``judge`` says what is wrong with the answer, ``where`` are chain id and address.

    A revert with data of its own is waited for: the contract is there, and not ready.
    """
    chain_id, address = where
    refuse = partial(_refuse, kind, option, where)

    def read(data: bytes) -> None:
        if not data:
            refuse("has no code, or answers nothing")
        try:
            wrong = judge(function.decode_result(data))
        except Undecodable:
            refuse(f"answers {function.name} with something else")
        if wrong:
            refuse(wrong)

    def on_error(message: str, data: bytes | None) -> None:
        if data:
            raise NotYet(f"the {kind} at {checksum(address)} reverts: 0x{data.hex()[:64]}")
        if "revert" in message.lower():
            refuse(f"does not know {function.name}")

    return ViewCall(chain_id, address, function.encode(), read, on_error=on_error)


def _refuse(kind: str, option: str, where: tuple[int, Address], why: str) -> NoReturn:
    chain_id, address = where
    raise WrongContract(
        f"{option}: there is no {kind} at {checksum(address)} on chain {chain_id}: it {why}; name the {kind} of this network"
    )
