"""The key management part of the vectors: events with their contents, Core calls and answers."""

from __future__ import annotations

from typing import Any

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm import contexts
from kmsconn.protocols.fhevm.contexts import NewContext
from kmsconn.protocols.fhevm.epochs import EpochMaterial, KeyMaterial
from kmsconn.protocols.fhevm.profile import Fhevm
from tests import vectors

SETTINGS = vectors.vector_settings()
PROFILE = Fhevm(SETTINGS)


def events() -> list[dict[str, Any]]:
    """Return all key management events of the vectors."""
    found: list[dict[str, Any]] = vectors.load()["ethereum"]["events"]
    return found


def event(name: str) -> dict[str, Any]:
    """Return one of them."""
    (found,) = [entry for entry in events() if entry["name"] == name]
    return found


def log(name: str) -> Log:
    """Return the log of an event."""
    return vectors.log_of(event(name))


def content(name: str) -> Any:
    """Return what an event asks for."""
    return PROFILE.decode(log(name))


def answers() -> list[tuple[str, dict[str, Any]]]:
    """Return every (name of an event, answer of one node)."""
    return [(entry["name"], answer) for entry in events() for answer in entry["answers"]]


def views() -> list[dict[str, Any]]:
    """Return the recorded views of both contracts."""
    found: list[dict[str, Any]] = vectors.load()["ethereum"]["views"]
    return found


def previous() -> NewContext:
    """Return the first context, from whose announcement the Core is told the previous one."""
    first = log("context_1_first")
    return NewContext.read(*contexts.EVENT.decode(first.topics, first.data))


def material(name: str) -> EpochMaterial:
    """Return what an epoch of the vectors reshares, from the Core request that they expect."""
    asked = event(name)["core"][0]["request"]["previous_epoch"]
    kinds = {"ServerKey": 0, "PublicKey": 1}
    keys = [
        KeyMaterial(
            int(key["preproc_id"], 16),
            int(key["key_id"], 16),
            key["key_parameters"],
            tuple((kinds[one["key_type"]], from_hex(one["digest"])) for one in key["key_digests"]),
        )
        for key in asked["keys_info"]
    ]
    crs = [(int(one["crs_id"], 16), from_hex(one["crs_digest"])) for one in asked["crs_info"]]
    return EpochMaterial(tuple(keys), tuple(crs))


def calls(name: str) -> tuple[Any, ...]:
    """Return the calls that the profile makes for an event of the vectors."""
    asked = content(name)
    found: Any = ()
    if name == "context_2_new":
        found = previous()
    elif name.startswith("epoch"):
        found = material(name)
    return PROFILE.operations[asked.kind].start_calls(asked, found)
