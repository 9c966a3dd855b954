"""Golden values for tests, read once; ``PROVENANCE.md`` says where they are from and what they prove."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from kmsconn.config import parties, settings
from kmsconn.config.description import Secret
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex, from_quantity
from kmsconn.model.life import Ciphertext
from kmsconn.protocols.port import Facts
from kmsconn.protocols.queries import ContractQuery

HERE = Path(__file__).parent
ABI_SOURCE = HERE.parents[1] / "contracts_abi" / "fhevm-0.14.json"


@cache
def load() -> dict[str, Any]:
    """Return all vectors of fhevm 0.14; do not change them."""
    content: dict[str, Any] = json.loads((HERE / "fhevm-0.14.json").read_text())
    return content


@cache
def abi_source() -> dict[str, Any]:
    """Return the ABI file with its event test vectors; do not change it."""
    content: dict[str, Any] = json.loads(ABI_SOURCE.read_text())
    return content


@cache
def load_later() -> dict[str, Any]:
    """Return all vectors of fhevm 0.15; do not change them."""
    content: dict[str, Any] = json.loads((HERE / "fhevm-0.15.json").read_text())
    return content


@cache
def later_abi_source() -> dict[str, Any]:
    """Return the ABI file of 0.15; do not change it."""
    content: dict[str, Any] = json.loads((ABI_SOURCE.parent / "fhevm-0.15.json").read_text())
    return content


def requests(*variants: str) -> list[dict[str, Any]]:
    """Return the decryption requests, or those of some variants (public, legacy_direct, legacy_delegated, unified)."""
    found: list[dict[str, Any]] = load()["requests"]
    return [entry for entry in found if not variants or entry["variant"] in variants]


def request(name: str) -> dict[str, Any]:
    """Return one decryption request."""
    (found,) = [entry for entry in requests() if entry["name"] == name]
    return found


def answers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return every (request, answer of one node)."""
    return [(entry, answer) for entry in requests() for answer in entry["answers"]]


SCHEME_LISTS = {
    "PublicDecrypt": "420100",
    "UserDecrypt": "520100",
    "KeyGenPreproc": "420100",
    "KeyGen": "520100",
    "CrsGen": "420100",
    "NewMpcEpoch": "320100",
}
"""How each request to the Core ends since 0.15: [ECDSA256K1] in the field of its greatest number."""


def asking_for_ecdsa(method: str, recorded: str) -> bytes:
    """Return the request that was recorded of a connector of 0.14, and behind it the signing schemes that 0.15 added."""
    return from_hex(recorded) + bytes.fromhex(SCHEME_LISTS.get(method, ""))


def log_of(entry: dict[str, Any]) -> Log:
    """Return the ``log`` of an entry, decoded."""
    log = entry["log"]
    return Log(
        address=parse_address(log["address"]),
        topics=tuple(from_hex(topic) for topic in log["topics"]),
        data=from_hex(log["data"]),
        block_number=from_quantity(log["blockNumber"]),
        block_hash=from_hex(log["blockHash"]),
        transaction_hash=from_hex(log["transactionHash"]),
        log_index=from_quantity(log["logIndex"]),
    )


def data_of(question: ContractQuery[Any]) -> bytes:
    """Return the calldata of a question."""
    return from_hex(question.parameters[0]["data"])


def slot_of(question: ContractQuery[Any]) -> int:
    """Return the slot that a question is for."""
    return from_quantity(question.parameters[1])


def facts_of(entry: dict[str, Any], age: float = 0.0) -> Facts:
    """Return what a check knows at the time of the request's block."""
    transaction = entry.get("transaction")
    if transaction is None:
        return Facts(chain_time=entry["block_timestamp"], age=age)
    to, data = parse_address(transaction["to"]), from_hex(transaction["input"])
    return Facts(chain_time=entry["block_timestamp"], age=age, to=to, input=data)


def ciphertext(handle: bytes) -> Ciphertext:
    """Return the body and format of a handle as the Core gets them."""
    (found,) = [entry for entry in load()["ciphertexts"] if from_hex(entry["handle"]) == handle]
    return Ciphertext(handle, from_hex(found["body"]), found["expected_ciphertext_format"])


def account(name: str) -> tuple[Address, bytes]:
    """Return address and secret of a key of ``environment.keys`` (``signer1``, ``tx1``, ``user`` …)."""
    found = load()["environment"]["keys"][name]
    return parse_address(found["address"]), from_hex(found["private_key"])


def enc_key() -> bytes:
    """Return the user's public key, which is in every user request."""
    return from_hex(load()["user_key"]["enc_key"])


def hexadecimal(value: Any) -> bytes:
    """Return the bytes of a hex text; ``user_key.enc_key`` names the bytes at that place."""
    return enc_key() if value == "user_key.enc_key" else from_hex(value)


def optional_id(value: str | None) -> int | None:
    """Return an id, or None where there is none."""
    return None if value is None else int(value, 16)


def vector_settings(**changes: Any) -> settings.Settings:
    """Return the settings of node 1 in the vectors' world: Gateway 54321, hosts 12345 and 12346."""
    environment = load()["environment"]
    gateway, ethereum = environment["gateway"], environment["ethereum"]
    acl = parse_address(ethereum["contracts"]["ACL"])

    def chain(chain_id: int) -> parties.Chain:
        return parties.Chain(chain_id, (f"http://chain-{chain_id}.test:8545",))

    def contract(addresses: dict[str, str], name: str) -> parties.Contract:
        return parties.Contract(parse_address(addresses[name]), name)

    values: dict[str, Any] = {
        "gateway": chain(gateway["chain_id"]),
        "ethereum": chain(ethereum["chain_id"]),
        "host_chains": tuple(parties.HostChain(chain(number), acl) for number in environment["host_chains"]),
        "decryption_contract": contract(gateway["contracts"], "Decryption"),
        "gateway_config_contract": contract(gateway["contracts"], "GatewayConfig"),
        "protocol_config_contract": contract(ethereum["contracts"], "ProtocolConfig"),
        "kms_generation_contract": contract(ethereum["contracts"], "KMSGeneration"),
        "core_endpoints": ("http://core.test:50100",),
        "private_key": Secret(environment["keys"]["tx1"]["private_key"]),
    }
    return settings.Settings.of(**(values | changes))
