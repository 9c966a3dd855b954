"""The dependencies: three chains, Cores and buckets, over memory streams in virtual time and over sockets alike.

The names here are stable. The knobs of the emulated chains, Cores and buckets are attributes of what they make.
"""

# ruff: noqa: E402 - what needs the extra comes after the look at it

from __future__ import annotations

from kmsconn.extras import require_extra

require_extra("emulator", "kmsconn.emulator")

from kmsconn.emulator.buckets import BucketFaults
from kmsconn.emulator.ciphertexts import StoredCiphertext, read_ciphertexts
from kmsconn.emulator.core_faults import CoreFaults
from kmsconn.emulator.dependencies import EmulatedDependencies, RealCore
from kmsconn.emulator.emulation import CommitteePlan, Emulation, EmulationPlan, EmulationResult
from kmsconn.emulator.fhevm_dependencies import GENERATIONS, FhevmDependencies, Traffic
from kmsconn.emulator.load import Load
from kmsconn.emulator.network import Line, MemoryNetwork, serve_sockets
from kmsconn.emulator.node_faults import NodeFault
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


def __dir__() -> list[str]:
    return sorted(__all__)
