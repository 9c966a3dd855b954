"""The contracts of a generation: their published ABIs, how a revert is named by them, and whether an address has the one that is meant.

Each is asked for something that its kind alone answers. An address without code answers a call with nothing, so that one question tells
both. Raises ``WrongContract``, which names the option. Never asks a chain itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import resources
from typing import Any, NoReturn, TypeVar

import attrs

from kmsconn.errors import NotYet, Undecodable, WrongContract
from kmsconn.ethereum.abi import SELECTOR_BYTES, Abi, Domain, Function
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.protocols.profile import Version
from kmsconn.protocols.queries import ContractQuery, view_call

_FILES = {FHEVM: ("fhevm-0.14", "fhevm-0.15"), HTTPZ_RC7: ("httpz-rc7",)}
"""The files of a generation, one for each release in which a contract changed."""


def read_contracts(profile: str) -> dict[str, dict[str, Abi]]:
    """Return group → contract → ABI of a generation; the group ``contracts`` is its own, ``later`` that of its next release."""
    groups: dict[str, dict[str, Abi]] = {}
    for name in _FILES[profile]:
        source = resources.files("kmsconn._generated") / "abi" / f"{name}.json"
        for group, contracts in json.loads(source.read_text()).items():
            groups.setdefault(group, {}).update(
                {contract: Abi(items) for contract, items in contracts.items()}
            )
    return groups


def union_of_errors(contracts: Iterable[Abi]) -> dict[bytes, Function]:
    """Return the errors of several contracts by selector: an error of a called contract comes through unchanged."""
    return {selector: error for abi in contracts for selector, error in abi.errors_by_selector.items()}


_BUILT_IN = {error.selector: error for error in map(Function.named, ("Error(string)", "Panic(uint256)"))}
SIGNATURE: Mapping[str, Verdict] = {
    "ECDSAInvalidSignature": Verdict.FINAL,
    "ECDSAInvalidSignatureLength": Verdict.FINAL,
    "ECDSAInvalidSignatureS": Verdict.FINAL,
}
"""What every function says of a signature that it does not take."""

NO_DATA = "no revert data"
"""The name of a revert that says nothing."""

_PLAIN_NUMBER = 1 << 64


def name_revert(
    errors: Mapping[bytes, Function], verdicts: Mapping[str, Verdict], data: bytes | None
) -> Revert:
    """Name the revert by its data; what is not known, or not there, is RETRY."""
    if not data:
        return Revert(NO_DATA, (), Verdict.RETRY)
    error = errors.get(data[:SELECTOR_BYTES]) or _BUILT_IN.get(data[:SELECTOR_BYTES])
    try:
        values = error.decode(data) if error else None
    except Undecodable:
        values = None
    if error is None or values is None:
        return Revert(to_hex(data[:SELECTOR_BYTES]), (), Verdict.RETRY)
    verdict = verdicts.get(error.name, Verdict.RETRY)
    return Revert(error.name, tuple(show_value(value) for value in values), verdict)


def show_value(value: Any) -> str:
    """Write one value: ids and bytes as hex, addresses by EIP-55, small numbers and the rest plainly."""
    if isinstance(value, bytes):
        return checksum(Address(value)) if len(value) == ADDRESS_BYTES else to_hex(value)
    if isinstance(value, int) and value >= _PLAIN_NUMBER:
        return f"0x{value:064x}"
    if isinstance(value, tuple):
        return f"({', '.join(show_value(part) for part in value)})"
    return "".join(character if character.isprintable() else "�" for character in str(value))


T = TypeVar("T")

_VERSION = Function.named("getVersion()", "(string)")
_DOMAIN = Function.named("eip712Domain()", "(bytes1,string,string,uint256,address,bytes32,uint256[])")
_NAME = 1

Refuse = Callable[[str], NoReturn]
"""Says that a contract is another one; the text goes on after "it"."""


def has_code(kind: str, option: str, chain_id: int, address: Address) -> ContractQuery[None]:
    """Ask for the code at an address, where a contract has nothing that all its versions answer."""

    def read(code: bytes) -> None:
        if not code:
            _refuse(kind, option, (chain_id, address), "has no code")

    return ContractQuery(chain_id, address, "eth_getCode", (to_hex(address), "latest"), read)


def has_version(kind: str, option: str, chain_id: int, address: Address) -> ContractQuery[Version | None]:
    """Ask a contract of fhevm for its version, which begins with the name of its kind; None for one that cannot be read."""

    def judge(values: tuple[Any, ...], refuse: Refuse) -> Version | None:
        said: str = values[0]
        if not said.startswith(f"{kind} "):
            refuse(f"says that it is {said[:64]!r}")
        found = re.fullmatch(rf"{kind} v(\d{{1,6}})\.(\d{{1,6}})\.(\d{{1,6}})", said, re.ASCII)
        return None if found is None else (int(found[1]), int(found[2]), int(found[3]))

    return answers(_VERSION, kind, option, (chain_id, address), judge)


def has_domain(kind: str, option: str, chain_id: int, address: Address) -> ContractQuery[None]:
    """Ask a contract for the name of its EIP-712 domain (EIP-5267)."""

    def judge(values: tuple[Any, ...], refuse: Refuse) -> None:
        if values[_NAME] != kind:
            refuse(f"has the EIP-712 domain {values[_NAME][:64]!r}")

    return answers(_DOMAIN, kind, option, (chain_id, address), judge)


def same_domain(kind: str, option: str, domain: Domain, *, always: bool) -> ContractQuery[bool]:
    """Ask a contract for its EIP-712 domain and compare it with the configured one, whose options begin with ``option``.

    Returns whether it tells one; ``always``: a contract that tells none is another one.
    """
    where = domain.chain_id, domain.verifying_contract
    asked = answers(_DOMAIN, kind, f"{option}_name", where, partial(_compare, kind, option, domain))
    if always:
        return asked

    def read(data: bytes) -> bool:
        return bool(data) and asked.understand(data)

    def refused(message: str, data: bytes | None) -> bool | None:
        return False if not data and "revert" in message.lower() else asked.refused(message, data)

    return attrs.evolve(asked, understand=read, refused=refused)


def _compare(kind: str, option: str, ours: Domain, values: tuple[Any, ...], refuse: Refuse) -> bool:
    _, name, version, chain_id, contract, *_ = values
    if (chain_id, contract) != (ours.chain_id, ours.verifying_contract):
        refuse(f"tells the EIP-712 domain of {checksum(Address(contract))} on chain {chain_id}")
    wrong = [
        f"{option}_{field}: is {configured!r}, but the EIP-712 domain of the {kind} at {checksum(ours.verifying_contract)} "
        f"has the {field} {told[:64]!r}"
        for field, told, configured in (("name", name, ours.name), ("version", version, ours.version))
        if told != configured
    ]
    if wrong:
        raise WrongContract(
            f"{'; '.join(wrong)}; configure what the contract has: no signature would be right"
        )
    return True


def answers(
    function: Function,
    kind: str,
    option: str,
    where: tuple[int, Address],
    judge: Callable[[tuple[Any, ...], Refuse], T],
) -> ContractQuery[T]:
    """Ask a contract for what only its kind has; ``judge`` reads the answer and may refuse it, ``where`` are chain id and address.

    A revert with data of its own is waited for: the contract is there, and not ready.
    """
    chain_id, address = where
    refuse = partial(_refuse, kind, option, where)

    def read(data: bytes) -> T:
        if not data:
            refuse("has no code, or answers nothing")
        try:
            return judge(function.decode_result(data), refuse)
        except Undecodable:
            refuse(f"answers {function.name} with something else")

    def refused(message: str, data: bytes | None) -> None:
        if data:
            raise NotYet(f"the {kind} at {checksum(address)} reverts: 0x{data.hex()[:64]}")
        if "revert" in message.lower():
            refuse(f"does not know {function.name}")

    return attrs.evolve(view_call(chain_id, address, function.encode(), read), refused=refused)


def _refuse(kind: str, option: str, where: tuple[int, Address], why: str) -> NoReturn:
    chain_id, address = where
    raise WrongContract(
        f"{option}: there is no {kind} at {checksum(address)} on chain {chain_id}: it {why}; name the {kind} of this network"
    )
