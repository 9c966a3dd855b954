"""``kmsconn run`` on a bad day: nobody answers while it is told to end, and contracts that are not where the configuration says."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import pytest
import trio

from kmsconn.config.sources import load_config
from kmsconn.emulator.config_file import write_config
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.journal.database import Binding
from kmsconn.journal.recording import record
from kmsconn.model.life import State
from tests.e2e.test_cli_process import PATIENCE, config, kmsconn, running, until
from tests.unit.config.sample_values import KEY
from tests.unit.journal.samples import WAYS, arrival, opened, read_of, walk
from tests.vectors import log_of, request

GRACE = 1.0
BETWEEN_SIGNALS = 0.01  # seconds
SLACK = 10.0
"""Seconds that the rest of an end may take on a busy machine."""


@contextmanager
def silent() -> Iterator[str]:
    """Listen where connections are taken by the kernel and nobody ever answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def keep_requests(path: Path, *states: State) -> None:
    """Make the journal of a configuration with a request in each of these states."""
    settings = load_config(path, environ={})
    gateway, contract = settings.chains.gateway.chain_id, settings.protocol.decryption_contract.address
    sender = PrivateKey.parse(KEY).address
    binding = Binding(settings.protocol.profile, gateway, settings.chains.ethereum.chain_id, contract, sender)
    journal = settings.storage.journal
    assert isinstance(journal, Path)
    db = opened(journal, binding)
    log = log_of(request("public_one_v0"))
    db.begin()
    for number, state in enumerate(states, 1):
        known = attrs.evolve(arrival(number, number), log=attrs.evolve(log, block_number=number))
        read = read_of(known, blocks=(number, number))
        read = attrs.evolve(read, chain_id=gateway, contract=contract)
        [(rid, _)] = record(db, read).new
        walk(db, rid, WAYS[state])
    db.commit()
    db.close()


async def test_sigterm_during_an_outage_ends_within_the_grace_and_says_what_is_left(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE), ExitStack() as stack:
        gateway, ethereum, core = (stack.enter_context(silent()) for _ in range(3))
        path = config(
            tmp_path,
            gateway_url=gateway,
            ethereum_url=ethereum,
            kms_core_endpoints=[core],
            drain_grace=f"{GRACE:.0f}s",
        )
        keep_requests(path, State.PENDING, State.ANSWERED, State.ANSWERED, State.SIGNED, State.INCLUDED)
        async with running(path) as (process, lines):
            await until(lines, "wallet")
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert (await until(lines, "draining"))["signal"] == "SIGTERM"
            said = await until(lines, "ended")
            assert await process.wait() == 0
    assert GRACE <= time.monotonic() - begun < GRACE + SLACK
    assert {name: said[name] for name in ("pending", "answered", "signed", "included")} == {
        "pending": 1,
        "answered": 2,
        "signed": 1,
        "included": 1,
    }


async def test_a_second_signal_ends_it_before_the_grace_and_later_ones_change_nothing(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        path = config(tmp_path, drain_grace="1h")
        keep_requests(path, State.ANSWERED)
        async with running(path) as (process, lines):
            await until(lines, "wallet")
            process.send_signal(signal.SIGINT)
            await until(lines, "draining")
            process.send_signal(signal.SIGINT)
            await until(lines, "ending at once")
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                await trio.sleep(BETWEEN_SIGNALS)
            assert (await until(lines, "ended"))["answered"] == 1
    assert process.returncode == 0


@asynccontextmanager
async def dependencies_on_sockets() -> AsyncIterator[FhevmDependencies]:
    """Serve emulated dependencies on this machine while the block lasts."""
    dependencies = FhevmDependencies.make(time.time)
    async with trio.open_nursery() as nursery:
        await nursery.start(dependencies.serve_on_sockets)
        yield dependencies
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("option", "kind", "where"),
    [
        ("decryption_contract", "Decryption", "without code"),
        ("protocol_config_contract", "ProtocolConfig", "another contract"),
    ],
)
async def test_a_wrong_contract_ends_the_start_with_3_and_names_option_and_address(
    option: str, kind: str, where: str, tmp_path: Path
) -> None:
    path = tmp_path / "kmsconn.toml"
    with trio.fail_after(PATIENCE):
        async with dependencies_on_sockets() as near:
            other = {"Decryption": near.gateway_config, "ProtocolConfig": near.kms_generation}[kind]
            address = Address(b"\x77" * 20) if where == "without code" else other.address
            settings = near.settings(tmp_path / "j.db", monitoring_endpoint="127.0.0.1:0")
            contract = attrs.evolve(getattr(settings.protocol, option), address=address)
            write_config(path, settings.but(**{option: contract}))
            status, _, said = await kmsconn("run", "-c", str(path))
    assert status == 3
    assert f"{option}.address: there is no {kind} at {checksum(address)}" in said
