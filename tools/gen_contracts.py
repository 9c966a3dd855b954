"""Compiles the Solidity contracts of the tests into ``contracts_abi/solidity/artifacts.json``: ABI and creation code of each.

``make contracts`` runs it; it needs Node.js and ``make peers``. ``--check`` needs neither: it compares what went into the
artifacts (sources, settings, version of the compiler) by its hash.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES, PEERS = ROOT / "contracts_abi" / "solidity", ROOT / "peers"
TARGET = SOURCES / "artifacts.json"
DEPLOYED = ("ACL", "Decryption", "GatewayConfig", "KMSGeneration", "ProtocolConfig", "Wallet")
"""The contracts that somebody deploys; the others are parts of them."""
LATER = {
    "LaterKMSGeneration": "KMSGeneration",
    "MigratingGeneration": "MigratingGeneration",
    "LaterProtocolConfig": "ProtocolConfig",
}
"""Of the contracts that are compiled with the files of ``later`` in place of those of the same name: the name here, and the source's."""
SETTINGS = {
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": True,
    "evmVersion": "paris",
    "metadata": {"appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
}


class NotCompiled(Exception):  # noqa: N818 - what did not happen
    """The compiler is not there, or refuses the sources."""


def standard_input(*, later: bool = False) -> dict[str, Any]:
    """Return what the compiler is given; for the ``later`` contracts some files stand in the place of others."""
    paths = [*_files(SOURCES), *(_files(SOURCES / "later") if later else ())]
    sources = {path.name: {"content": path.read_text(encoding="utf-8")} for path in paths}
    return {"language": "Solidity", "sources": sources, "settings": SETTINGS}


def version() -> str:
    """Return the version of the compiler that the peers' lock pins."""
    lock = json.loads((PEERS / "package-lock.json").read_text(encoding="utf-8"))
    found: str = lock["packages"]["node_modules/solc"]["version"]
    return found


def inputs_hash() -> str:
    """Return the SHA-256 of everything that the artifacts depend on."""
    text = json.dumps([version(), standard_input(), standard_input(later=True)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def compile_all() -> str:
    """Compile; return the text of the artifacts. Raises NotCompiled."""
    contracts = _compiled(standard_input(), {name: name for name in DEPLOYED})
    contracts |= _compiled(standard_input(later=True), LATER)
    return _render({"compiler": version(), "inputs": inputs_hash(), "contracts": contracts})


def _compiled(given: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    output = json.loads(_run(json.dumps(given)))
    complaints = [each["formattedMessage"] for each in output.get("errors", ())]
    if complaints:
        raise NotCompiled("\n".join(complaints))
    return {name: _artifact(output["contracts"][f"{source}.sol"][source]) for name, source in names.items()}


def is_fresh() -> bool:
    """Tell whether the artifacts were made of these sources with this compiler."""
    return TARGET.exists() and json.loads(TARGET.read_text(encoding="utf-8"))["inputs"] == inputs_hash()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sol"))


def _run(text: str) -> str:
    command = ["node", str(PEERS / "compile.cjs")]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    except FileNotFoundError as error:
        raise NotCompiled("Node.js is not there") from error
    if done.returncode:
        raise NotCompiled(f"the compiler does not run (make peers?): {done.stderr.strip()}")
    return done.stdout


def _artifact(contract: dict[str, Any]) -> dict[str, Any]:
    return {"abi": contract["abi"], "bytecode": contract["evm"]["bytecode"]["object"]}


def _render(artifacts: dict[str, Any]) -> str:
    """Write JSON with a line for each ABI item and each contract's code, so that changes can be read."""
    head = [f' "{key}": {json.dumps(artifacts[key])}' for key in ("compiler", "inputs")]
    blocks = []
    for name, artifact in artifacts["contracts"].items():
        items = ",\n".join(f"   {json.dumps(item)}" for item in artifact["abi"])
        code = json.dumps(artifact["bytecode"])
        blocks.append(f'  "{name}": {{\n  "abi": [\n{items}\n  ],\n  "bytecode": {code}\n  }}')
    contracts = ' "contracts": {\n' + ",\n".join(blocks) + "\n }"
    return "{\n" + ",\n".join((*head, contracts)) + "\n}\n"


def main() -> int:
    """Write the artifacts, or check them. Returns the exit status."""
    if "--check" in sys.argv[1:]:
        if is_fresh():
            return 0
        sys.stderr.write(f"{TARGET.relative_to(ROOT)} is stale: make contracts\n")
        return 1
    try:
        text = compile_all()
    except NotCompiled as error:
        sys.stderr.write(f"{error}\n")
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
