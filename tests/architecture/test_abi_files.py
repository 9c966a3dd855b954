"""Every ABI file is pinned by its hash: a change of an interface is a change of what stands on it, and says of what."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kmsconn.connector.contracts import interfaces
from kmsconn.ethereum.abi import Abi
from kmsconn.model.requests import PROFILES
from kmsconn.protocols.fhevm import contracts
from kmsconn.protocols.fhevm.contracts import CONFIG_BASE, DECRYPTION_BASE
from tools import gen_contracts

ROOT = Path(__file__).parents[2]
PINNED = {
    "contracts_abi/fhevm-0.14.json": "4bba126d4983754cb67710a502f048e2245b48a2bf653d2696cd757a7893d557",
    "contracts_abi/fhevm-0.15.json": "856c573c08e3e501e9267f1d009908b9b39ff44048300309bff82463aec7d884",
    "contracts_abi/httpz-rc7.json": "216ded76609b8d97d1531a43c57c686ae97267849e625790968670dc9a7e7128",
    "kmsconn/_generated/abi/fhevm-0.14.json": "950618314ecaa026ab1f9bf52c3ca583c6dfe5c12c78374b370d7bce505c75dd",
    "kmsconn/_generated/abi/fhevm-0.15.json": "5d07215e744371270e68d95760773079464bca33f0f4d27450b9eba54e1602db",
    "kmsconn/_generated/abi/httpz-rc7.json": "6fc999111a95f2db894b1c3ac5c311a30481978cff094081531ce09ccba0f769",
}
PACKAGES = {"fhevm-0.14": "fhevm", "fhevm-0.15": "fhevm", "httpz-rc7": "httpz_rc7"}
WHAT_TO_UPDATE = """{path} is not the file that this version was written against (SHA-256 {found}).
Look at what changed, and update, of the generation {generation}:
  operations     kmsconn/protocols/{package}: in the module of each operation its events, reply function and verdicts of errors
  functions      kmsconn/protocols/{package}/contracts.py: calldata and results; contracts_abi/solidity, which the tests deploy
  emulator       kmsconn/emulator/contracts, which emits the events
  outcomes       docs/outcomes.md: what each new error means for a reply
  run-time copy  make gen
  vectors        tests/vectors, where a topic, a selector or a reply is recorded
Then pin the new hash here."""


def files() -> set[str]:
    folders = ("contracts_abi", "kmsconn/_generated/abi")
    return {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).glob("*.json")}


def complaint(path: str, content: bytes) -> str:
    """Return what to do about a file that is not the pinned one; nothing about one that is."""
    found = hashlib.sha256(content).hexdigest()
    if found == PINNED[path]:
        return ""
    generation = Path(path).stem
    package = PACKAGES[generation]
    return WHAT_TO_UPDATE.format(path=path, found=found, generation=generation, package=package)


def test_every_abi_file_is_pinned() -> None:
    assert files() == PINNED.keys()


@pytest.mark.parametrize("path", PINNED)
def test_an_abi_file_is_the_one_this_version_was_written_against(path: str) -> None:
    told = complaint(path, (ROOT / path).read_bytes())
    assert not told, told


@pytest.mark.parametrize("path", PINNED)
def test_a_changed_file_says_what_to_update_in_modules_that_exist(path: str) -> None:
    told = complaint(path, (ROOT / path).read_bytes().replace(b"uint256", b"uint128", 1))
    named = {
        word.rstrip(":,")
        for word in told.split()
        if word.startswith(("kmsconn/", "docs/", "tests/", "contracts"))
    }
    assert len(named) >= 5
    assert [one for one in named if not (ROOT / one.rstrip(")").lstrip("(")).exists()] == []


@pytest.mark.parametrize("generation", PROFILES)
def test_no_two_revisions_give_one_selector_or_topic_two_meanings(generation: str) -> None:
    """What is decoded by its first bytes alone must be the same in every contract that has them."""
    meanings: dict[bytes, set[str]] = {}
    for contract in interfaces(generation).contracts.values():
        for table in (contract.functions_by_selector, contract.events_by_topic, contract.errors_by_selector):
            for key, entry in table.items():
                meanings.setdefault(key, set()).add(entry.signature)
    assert {key.hex(): found for key, found in meanings.items() if len(found) > 1} == {}


PUBLISHED = {
    "ACL": contracts.ACL,
    "Decryption": contracts.DECRYPTION,
    "GatewayConfig": contracts.GATEWAY_CONFIG,
    "ProtocolConfig": contracts.PROTOCOL_CONFIG,
    "LaterProtocolConfig": contracts.PROTOCOL_CONFIG,
    "KMSGeneration": contracts.KMS_GENERATION,
    "LaterKMSGeneration": contracts.KMS_GENERATION,
    "MigratingGeneration": contracts.LATER_KMS_GENERATION,
}
NOT_OURS = {
    "ProtocolConfig": {"confirmEpochActivation", "confirmKmsContextCreation"},
    "LaterProtocolConfig": {"confirmEpochActivation", "confirmKmsContextCreation"},
    "MigratingGeneration": {"getCrsParamsType", "reinitializeV3"},
    "GatewayConfig": {"getHostChains"},
}
"""Published functions that the test contracts leave out: ceremonies, and what no connector asks."""
OWN_ERRORS = {"NotTheOwner", "CiphertextMaterialNotFound"}


@cache
def artifacts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gen_contracts.TARGET.read_text())["contracts"]
    return found


def built(name: str) -> Abi:
    return Abi(artifacts()[name]["abi"])


def test_the_artifacts_are_fresh() -> None:
    assert gen_contracts.is_fresh(), "make contracts"


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_function_has_its_selector_and_results(name: str) -> None:
    ours = built(name).functions_by_selector
    for selector, function in PUBLISHED[name].functions_by_selector.items():
        if function.name in NOT_OURS.get(name, set()) or _belongs_to_proxies(function.name):
            continue
        assert ours[selector].signature == function.signature


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_event_of_ours_is_published(name: str) -> None:
    published = PUBLISHED[name].events_by_topic
    for topic, event in built(name).events_by_topic.items():
        assert published[topic].signature == event.signature


@pytest.mark.parametrize("name", [*PUBLISHED, "Wallet"])
def test_every_error_of_ours_is_published_but_for_two(name: str) -> None:
    for selector, error in built(name).errors_by_selector.items():
        assert selector in contracts.ALL_ERRORS or error.name in OWN_ERRORS, error.signature


@pytest.mark.parametrize(("name", "base"), [("Decryption", DECRYPTION_BASE), ("ProtocolConfig", CONFIG_BASE)])
def test_the_sources_lay_their_storage_where_we_read_it(name: str, base: int) -> None:
    source = (gen_contracts.SOURCES / f"{name}.sol").read_text()
    assert f"layout at 0x{base:064x}" in source


def _belongs_to_proxies(name: str) -> bool:
    return name in {"upgradeToAndCall", "proxiableUUID", "owner", "paused"}


def test_the_message_classes_need_no_grpcio() -> None:
    packages = "kmsconn._generated.fhevm.kms.v1, kmsconn._generated.httpz_rc7.kms.v1"
    code = f"import sys, {packages}; print([n for n in sys.modules if n.startswith('grpc')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert run.stdout.strip() == "[]"
