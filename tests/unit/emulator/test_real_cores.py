"""A Core of somebody else in the place of the emulated one, in memory: the owner leads it, and decryptions show the right values."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from kmsconn._generated.fhevm.kms.v1 import CrsGenRequest, KeyGenPreprocRequest
from kmsconn.ciphertexts.attestation import StoredFormat
from kmsconn.connector.connector import serve
from kmsconn.emulator.ciphertexts import StoredCiphertext, make_ciphertext, read_ciphertexts
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.core_keys import SigningNode
from kmsconn.emulator.core_requests import DEFAULT_KEY
from kmsconn.emulator.dependencies import RealCore, key_for
from kmsconn.emulator.emulation import CommitteePlan, Emulation, EmulationPlan, PlaintextVerdict
from kmsconn.emulator.grpc_server import Method, serve_grpc
from kmsconn.emulator.key_ceremonies import LAST_EPOCH, NEXT_CONTEXT, NEXT_EPOCH, TEST_PARAMS
from kmsconn.emulator.key_life import QUICK
from kmsconn.emulator.load import Load
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.errors import ConfigError
from kmsconn.protocols.protobuf import decode
from kmsconn.testing.killable import KillablePorts, Life

KEYS = [key_for(f"signer of a Core of one's own {member}") for member in range(4)]


def stored(value: int, fhe_type: int = 4) -> StoredCiphertext:
    body = make_ciphertext(f"{value}", value, fhe_type, chain_id=1).body
    return StoredCiphertext(
        body, fhe_type, value, StoredFormat.COMPRESSED_ON_CPU, int.from_bytes(DEFAULT_KEY)
    )


LONG = 120.0  # virtual seconds: a life of keys takes about twenty
STOCK = (stored(7), stored(70_000), stored(1, 0))


@attrs.frozen
class Played:
    emulation: Emulation
    cores: list[EmulatedCore]
    params: set[int | None]
    """With which parameters the Core was told to prepare keys and to make CRS."""


async def played(
    folder: Path, *, members: int = 1, keys: bool = False, known: dict[bytes, int] | None = None
) -> Played:
    """Lead a Core that knows these values, and have six public decryptions made; return what came of it."""
    wall = lambda: 1_767_225_600.0 + trio.current_time()  # noqa: E731
    committee = CommitteePlan(
        members,
        tuple(RealCore(f"http://core{n}.example:50051", KEYS[n].address) for n in range(members)),
        keys,
        TEST_PARAMS,
    )
    plan = EmulationPlan(
        folder / "k.toml", Load(2.0, 3.0, ("public",)), committee=committee, ciphertexts=STOCK
    )
    emulation = Emulation.of(plan, wall)
    dependencies, network = emulation.dependencies, MemoryNetwork()
    values = known or {one.body: one.value for one in STOCK}
    nodes = [SigningNode(KEYS[n], n + 1, (members - 1) // 3) for n in range(members)]
    there = Played(emulation, [EmulatedCore(node, values) for node in nodes], set())
    for n, core in enumerate(there.cores):
        methods = {path: partial(noting, there, path, method) for path, method in core.methods().items()}
        network.serve(f"core{n}.example", 50051, partial(serve_grpc, methods=methods))
    dependencies.settle_in_memory(network)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await nursery.start(dependencies.run)
        for member in range(members):
            ports = KillablePorts(Life(), network, wall, Random(0)).ports()
            settings = dependencies.settings(folder / f"{member}.db", member, **(QUICK if keys else {}))
            await nursery.start(partial(serve, settings, ports=ports, on_event=lambda _: None))
        with trio.fail_after(LONG):
            await emulation.put_load_on()
        nursery.cancel_scope.cancel()
    return there


async def noting(there: Played, path: str, method: Method, request: bytes) -> bytes:
    """Answer a call, and note its parameters if it has some."""
    kinds: dict[str, Any] = {"KeyGenPreproc": KeyGenPreprocRequest, "CrsGen": CrsGenRequest}
    if (message := kinds.get(path.rpartition("/")[2])) is not None:
        there.params.add(decode(message, request).params)
    return await method(request)


async def test_a_real_core_is_asked_no_emulated_one_is_there_and_public_plaintexts_are_compared(
    tmp_path: Path,
) -> None:
    there = await played(tmp_path)
    verdict = there.emulation.result()
    assert verdict.plaintexts == PlaintextVerdict(compared=6, wrong=0)
    assert not [name for name in there.emulation.dependencies.names if name.startswith(("core", "member"))]
    assert (verdict.verdict.nodes[0].answered, verdict.well) == (6, True)


@pytest.mark.parametrize("members", [1, pytest.param(4, marks=pytest.mark.sampled)])
async def test_owner_leads_real_cores_before_they_are_asked_to_decrypt(tmp_path: Path, members: int) -> None:
    """They get the first context, a key and a CRS of the test parameters, the next context and two epochs; aborts are left out."""
    there = await played(tmp_path, members=members, keys=True)
    result = there.emulation.result()
    assert {keys.done for keys in result.keys} == {("announcement", "key", "CRS", "context", "epoch")}
    assert (result.keys_well, result.verdict.consensus, result.well) == (True, 6, True)
    assert there.params == {TEST_PARAMS}
    for core in there.cores:
        assert NEXT_CONTEXT.to_bytes(32) in core.known.contexts
        assert {NEXT_EPOCH.to_bytes(32), LAST_EPOCH.to_bytes(32)} < core.known.epochs


async def test_a_core_that_reveals_another_value_is_found_out(tmp_path: Path) -> None:
    """Its signature is right, and the contract takes it."""
    known = {one.body: 9 if one.value == 7 else one.value for one in STOCK}
    result = (await played(tmp_path, known=known)).emulation.result()
    assert result.plaintexts is not None
    assert result.plaintexts.wrong > 0
    assert (result.verdict.well, result.well) == (True, False)


def written(folder: Path, *entries: dict[str, object]) -> Path:
    (folder / "a.bin").write_bytes(b"a ciphertext")
    path = folder / "ciphertexts.json"
    path.write_text(json.dumps(entries))
    return path


GOOD: dict[str, object] = {
    "path": "a.bin", "type": "euint64", "value": 42, "format": "compressed_on_cpu", "key_id": f"{4:064x}",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, (5, 42)),
        ({"type": 5}, (5, 42)),
        ({"type": "Uint256", "value": "0x" + "f" * 64}, (8, 2**256 - 1)),
        ({"type": "bool", "value": True}, (0, 1)),
    ],
)
def test_types_and_values_have_several_forms(
    tmp_path: Path, change: dict[str, object], expected: tuple[int, int]
) -> None:
    (one,) = read_ciphertexts(written(tmp_path, GOOD | change))
    assert (one.fhe_type, one.value) == expected
    assert (one.body, one.stored, one.key_id) == (b"a ciphertext", StoredFormat.COMPRESSED_ON_CPU, 4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"path": "b.bin"}, "b.bin cannot be read"),
        ({"type": "euint7"}, "type 'euint7' is not one of"),
        ({"value": 2**64}, "does not fit"),
        ({"size": 1}, "is not a list of ciphertexts"),
        ({"value": "18446744073709551616"}, "does not fit"),
        ({"value": "many"}, "value 'many' is not a number"),
        ({"format": "zip"}, "format 'zip' is not one of uncompressed_on_cpu"),
        ({"key_id": "key"}, "key_id 'key' is not a number"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_ciphertexts(written(tmp_path, GOOD, GOOD | change))


def test_all_wrong_entries_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_ciphertexts(written(tmp_path, GOOD | {"type": 1}, GOOD, GOOD | {"format": ""} | {"format": "x"}))
    assert [fault.place.rpartition("[")[2] for fault in caught.value.faults] == ["0]", "2]"]


def test_a_list_of_nothing_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no ciphertext"):
        read_ciphertexts(written(tmp_path))
