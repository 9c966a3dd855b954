"""The dependencies: three chains, Cores and buckets, over memory streams in virtual time and over sockets alike.

The names here are stable. The knobs of the emulated chains, Cores and buckets are attributes of what they make.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from kmsconn.extras import require_extra

require_extra("emulator", "kmsconn.emulator")

if TYPE_CHECKING:
    from kmsconn.emulator.bucket_faults import BucketFaults
    from kmsconn.emulator.ciphertext_file import StoredCiphertext, read_ciphertexts
    from kmsconn.emulator.core_faults import CoreFaults
    from kmsconn.emulator.dependencies import EmulatedDependencies, RealCore
    from kmsconn.emulator.emulation import CommitteePlan, Emulation, EmulationPlan, EmulationResult
    from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
    from kmsconn.emulator.load import Load
    from kmsconn.emulator.network import Line, MemoryNetwork, serve_sockets
    from kmsconn.emulator.node_faults import NodeFault
    from kmsconn.emulator.traffic import GENERATIONS, EmulatedGeneration, Traffic
    from kmsconn.emulator.users import Users
    from kmsconn.model.requests import FHEVM, HTTPZ_RC7

__all__ = [
    "FHEVM",
    "GENERATIONS",
    "HTTPZ_RC7",
    "BucketFaults",
    "CommitteePlan",
    "CoreFaults",
    "EmulatedDependencies",
    "EmulatedGeneration",
    "Emulation",
    "EmulationPlan",
    "EmulationResult",
    "FhevmDependencies",
    "Line",
    "Load",
    "MemoryNetwork",
    "NodeFault",
    "RealCore",
    "StoredCiphertext",
    "Traffic",
    "Users",
    "read_ciphertexts",
    "serve_sockets",
]

# A name is imported when it is first used: a module of this package need not load the others.
_HOMES: Final = {
    "emulator.bucket_faults": "BucketFaults",
    "emulator.ciphertext_file": "StoredCiphertext read_ciphertexts",
    "emulator.core_faults": "CoreFaults",
    "emulator.dependencies": "EmulatedDependencies RealCore",
    "emulator.emulation": "CommitteePlan Emulation EmulationPlan EmulationResult",
    "emulator.fhevm_dependencies": "FhevmDependencies",
    "emulator.load": "Load",
    "emulator.network": "Line MemoryNetwork serve_sockets",
    "emulator.node_faults": "NodeFault",
    "emulator.traffic": "GENERATIONS EmulatedGeneration Traffic",
    "emulator.users": "Users",
    "model.requests": "FHEVM HTTPZ_RC7",
}
_HOME_OF: Final = {name: f"kmsconn.{home}" for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'kmsconn.emulator' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
