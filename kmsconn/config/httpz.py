"""The generation httpz-rc7: its own names and defaults, those that it shares with fhevm, and its rules for empty values. Reads no source.

One gateway has it all, so the settings name it as Ethereum too. Source: httpz-rc7.md 6.1 and 6.3. The default mnemonic of that
generation is left out: everybody has its keys (5.5).
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from kmsconn.config.assembly import Written
from kmsconn.config.description import AttestationMode, Form, described
from kmsconn.config.forms import at_least, flag, whole
from kmsconn.config.options import ALIASES, DESCRIBED, Accepted, Findings, OptionTable, page
from kmsconn.config.parties import Chain, Chains, Contract, S3Fallback
from kmsconn.config.places import contract_form
from kmsconn.config.working import HttpApi
from kmsconn.ethereum.addresses import Address

_MANAGER: Final = Address(bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3"))


def _contract(of: str, kind: str, name: str, address: Address) -> dict[str, dict[str, Any]]:
    address_of = {"name": f"{name}_address", "form": contract_form(kind), "default": address, "in_file": True}
    return {
        f"{of}.address": address_of,
        f"{of}.domain_name": {"name": f"{name}_domain_name", "default": kind},
        f"{of}.domain_version": {"name": f"{name}_domain_version"},
    }


_CHANGED: Final[dict[str, dict[str, Any]]] = {
    "gateway_url": {"name": "gwl2_url", "default": ("ws://localhost:8545",), "in_file": True},
    "gateway_chain_id": {"name": "chain_id", "default": 31337, "in_file": True},
    **_contract("decryption_contract", "DecryptionManager", "decryption_manager", _MANAGER),
    **_contract("gateway_config_contract", "HTTPZ", "httpz", Address(bytes(19) + b"\x01")),
    "kms_generation_contract.address": {"name": "key_manager_address", "form": contract_form("KeyManager"), "default": None},
    "kms_core_endpoints": {"name": "kms_core_endpoint", "default": ("http://[::1]:50052",), "in_file": True},
    "service_name": {"default": "kms-connector"},
}  # fmt: skip
"""What differs from the descriptions of the settings."""

_OWN: Final = {of: attrs.evolve(DESCRIBED[of], **changes) for of, changes in _CHANGED.items()}
_NAMES: Final = {of: one.name for of, one in _OWN.items()}
_DOMAINS: Final = tuple(name for name in _NAMES.values() if "_domain_" in name)

_LATER: Final = (
    *(one.name for one in described(HttpApi)),
    *"network gateway_ws_url ethereum_ host_chains protocol_config_contract. kms_generation_contract.domain_ compressed_key_sets".split(),
    *"preprocessing_ids erc1271_ key_management_polling kms_operation_ pools.http_ pools.key_ pools.aborts pools.protocol_".split(),
    *"attestation ct_attestation.head_".split(),
)
"""How options begin that this generation does not have."""

_BY_DEADLINE: Final = "work ends by its deadline (deadlines.*, decryption_expiry)"
_ACCEPTED: Final = (
    Accepted("channel_size", "pools.* limit concurrent requests", Form(lambda value: at_least(1, value), "")),
    Accepted("decryption_timeout_secs", _BY_DEADLINE, Form(whole, "")),
    Accepted("reencryption_timeout_secs", _BY_DEADLINE, Form(whole, "")),
    Accepted("retry_interval_secs", "delays grow exponentially", Form(whole, "")),
    Accepted("verify_coprocessors", "the connector reads every coprocessor from HTTPZ", Form(flag, "")),
)

HTTPZ_RC7: Final = OptionTable(
    page(lambda name: not name.startswith(_LATER), _OWN),
    {"overlap": ALIASES["overlap"]},
    {one.name: one for one in _ACCEPTED},
    _NAMES,
)


def tidy(findings: Findings) -> None:
    """Take empty values off: of a domain the default is used and told, what must be configured is a fault, all others count as unset."""
    for name, given in list(findings.given.items()):
        if not isinstance(given.value, str) or given.value.strip():
            continue
        del findings.given[name]
        if name in _DOMAINS:
            findings.warn(given.place, f"is empty: the default {HTTPZ_RC7.options[name].default} is used")
        elif HTTPZ_RC7.options[name].in_file:
            findings.fault(given.place, "is not configured: it is empty")


def chains_of(written: Written) -> Chains:
    """Return the one gateway; notes what is unsafe under that generation's options."""
    values, findings = written.values, written.findings
    for name in _DOMAINS:
        if isinstance(values[name], str) and not (values[name].isascii() and values[name].isprintable()):
            found = "holds characters that other encoders of EIP-712 may read differently"
            findings.warn(written.place(name), found)
    if values["tolerant_digests"]:
        found = "is on: the connector sends ciphertexts to the Core although their digest differs from the one on chain"
        findings.warn(written.place("tolerant_digests"), found)
    gateway = Chain(values["chain_id"], values["gwl2_url"] or (), "gwl2_url")
    return Chains(gateway, gateway, ())


def httpz_of(written: Written) -> Contract:
    """Return the contract that has what two contracts have in the later generation."""
    parts = ("address", "domain_name", "domain_version")
    return Contract(*(written.values[f"httpz_{part}"] for part in parts))


def key_manager_of(written: Written) -> Contract:
    """Return the KeyManager, by default at the address of HTTPZ."""
    return Contract(written.values["key_manager_address"] or written.values["httpz_address"], "KeyManager")


def attestation_of(_: Written) -> AttestationMode:
    """Return that there are none."""
    return AttestationMode.OFF


def s3_of(written: Written) -> S3Fallback | None:
    """Return the fallback bucket; notes what is missing or unsafe."""
    values, findings = written.values, written.findings
    region, bucket, endpoint = (values[f"s3_config.{name}"] for name in ("region", "bucket", "endpoint"))
    given = [name for name in findings.given if name.startswith("s3_config.")]
    if not given:
        findings.warn("s3_config", "is missing: a ciphertext without a bucket on chain cannot be found")
        return None
    findings.require("s3_config.region", "s3_config.bucket", beside=given)
    if isinstance(endpoint, str) and endpoint.startswith("http:") and not values["allow_http_buckets"]:
        place = written.place("s3_config.endpoint")
        findings.warn(place, "has no TLS: the connector does not use it unless allow_http_buckets is true")
    return None if region is None or bucket is None else S3Fallback(region, bucket, endpoint)
