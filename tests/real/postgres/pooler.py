"""pgbouncer before a server of PostgreSQL, as a process of its own, from Debian's package."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cluster import OWNER, STARTING, Cluster, as_owner, give_to_owner
from kmsconn.config.values import PostgresAddress
from kmsconn.emulator.network import reserve_ports

_INI = """
[databases]
* = host={folder} port={port} user={owner}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = {round_robin}
"""


@contextmanager
def open_pooler(
    cluster: Cluster, program: Path, database: str, mode: str, *, size: int = 20, round_robin: bool = False
) -> Iterator[PostgresAddress]:
    """Run a pooler before a server while the block lasts, and return where it gives a database to everybody.

    ``program``: pgbouncer's.
    """
    with reserve_ports(1) as (port,):
        path = cluster.folder / f"pgbouncer-{port}.ini"
        path.write_text(
            _INI.format(
                folder=cluster.folder,
                port=cluster.port,
                owner=OWNER,
                own_port=port,
                mode=mode,
                size=size,
                round_robin=int(round_robin),
            )
        )
        give_to_owner(path)
        command = [*as_owner(), str(program), str(path)]
        with (cluster.folder / "pgbouncer.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 - a program of Debian's package
        try:
            _wait_for(port, process)
            yield PostgresAddress(database, ("127.0.0.1",), (port,), OWNER)
        finally:
            process.kill()  # its way of ending waits for its clients
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("pgbouncer did not start")
