"""A server of PostgreSQL as a process of its own, from Debian's package: fresh data, a free port on loopback, gone with this process.

As root it runs as the user ``postgres`` or ``nobody``, since PostgreSQL refuses root. For measurements and for tests. Measures nothing.
"""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.config.description import PostgresAddress, Secret
from kmsconn.emulator.network import reserve_ports

STARTING = 30.0  # seconds on a busy machine; undisturbed it is 0.5
ENDING = 20.0  # seconds until it is killed
OWNER = "kmsconn"
"""The superuser of the cluster."""

DEBIAN = Path("/usr/lib/postgresql")
UNSYNCED: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "log_min_messages": "warning",
    "max_wal_size": "128MB",
}
"""For tests: nothing is synced to the disk, since what survives a crash of the machine is for PostgreSQL's own tests.

So nothing need lie on one, where a new database costs four times the CPU.
"""
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - folders of their own are made in it
ROOM: Final = 4 << 30
"""Bytes that are free in memory before a server is given its place there: a server takes a sixteenth of it, and a run has some."""

_STANDBY: Final = {"wal_retrieve_retry_interval": "100ms"}
_QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}
_NUMBERS = itertools.count(1)


@attrs.define(eq=False)
class Cluster:
    """A running server. ``folder`` has its data, its log and its socket; ``settings`` are given at each start."""

    programs: Path
    folder: Path
    port: int
    password: str = attrs.field(repr=False)
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = attrs.field(factory=dict)

    def address(self, database: str = "postgres", *, tcp: bool = False) -> PostgresAddress:
        """Return where a database is: by the socket, where everybody is trusted, or by the loopback, where the password is asked for."""
        if tcp:
            return PostgresAddress(database, ("127.0.0.1",), (self.port,), OWNER, Secret(self.password))
        return PostgresAddress(database, (str(self.folder),), (self.port,), OWNER)

    def url(self, database: str = "postgres", *, tcp: bool = False, port: int | None = None) -> str:
        """Return the same as a URL for a configuration file; ``port``: of what stands before the server."""
        if tcp:
            return f"postgresql://{OWNER}:{self.password}@127.0.0.1:{port or self.port}/{database}"
        return f"postgresql://{OWNER}@/{database}?host={self.folder}&port={self.port}"

    def run(self, statement: str, database: str = "postgres") -> str:
        """Have psql run a statement as the superuser, and return what it printed. Raises CalledProcessError with its words."""
        options = (
            f"-X -q -A -t -v ON_ERROR_STOP=1 -h {self.folder} -p {self.port} -U {OWNER} -d {database} -c"
        )
        command = [str(self.programs / "psql"), *options.split(), statement]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=STARTING)  # noqa: S603 - a program of Debian's package
        return ran.stdout.strip()

    def make_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"journal_{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever uses it."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def start(self) -> None:
        """Start the server on its data. Raises RuntimeError with the end of its log where it does not answer."""
        self.launch()
        self.wait_started()

    def launch(self) -> None:
        """Start the server, and do not wait for it. To be called in a thread that lives on: the server ends with it."""
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        where = ["-D", str(self.data), "-k", str(self.folder), "-h", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - a program of Debian's package
                [*as_owner(), str(self.programs / "postgres"), *where, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_started(self) -> None:
        """Wait until the server answers. Raises RuntimeError with the end of its log where it does not."""
        if not self._answers():
            self.stop(signal.SIGQUIT)
            raise RuntimeError(f"PostgreSQL did not start; the end of its log: {self.log()[-1000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT well, connections closed; SIGQUIT at once, as a crash. Repeating: does nothing."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def log(self) -> str:
        """Return what the server has logged."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """The process of the running server, whose children serve the connections."""
        if self.process is None:
            raise RuntimeError("the server does not run")
        return self.process.pid

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self.folder / "data"

    def _answers(self) -> bool:
        options = f"-q -h {self.folder} -p {self.port} -d postgres"
        ready = [str(self.programs / "pg_isready"), *options.split()]
        deadline = time.monotonic() + STARTING
        while self.process is not None and self.process.poll() is None and time.monotonic() < deadline:
            if subprocess.run(ready, check=False, **_QUIET).returncode == 0:  # noqa: S603 - a program of Debian's package
                return True
            time.sleep(0.05)
        return False


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest of those that Debian keeps side by side, or None.

    ``KMSCONN_POSTGRES`` names another one, to try another version.
    """
    if chosen := os.environ.get("KMSCONN_POSTGRES"):
        return Path(chosen)
    installed = sorted(DEBIAN.glob("*/bin/postgres"), key=_version)
    if installed:
        return installed[-1].parent
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def _version(path: Path) -> int:
    name = path.parents[1].name
    return int(name) if name.isdigit() else 0


@contextmanager
def open_cluster(programs: Path | None, **settings: str) -> Iterator[Cluster]:
    """Run a fresh server while the block lasts. ``settings`` are those of postgresql.conf. Raises RuntimeError without programs."""
    if programs is None:
        raise RuntimeError("there is no PostgreSQL; install Debian's package postgresql")
    with _folder(settings) as folder, reserve_ports(1) as (port,):
        cluster = Cluster(programs, folder, port, secrets.token_hex(16), settings=settings)
        _make_data(cluster)
        with _running(cluster):
            yield cluster


@contextmanager
def open_standby(primary: Cluster) -> Iterator[Cluster]:
    """Run a standby while the block lasts, which receives from a server what is committed there, and holds up no commit."""
    settings = {**primary.settings, **_STANDBY}
    with _folder(settings) as folder, reserve_ports(1) as (port,):
        standby = Cluster(primary.programs, folder, port, primary.password, settings=settings)
        give_to_owner(folder)
        source = ["-h", str(primary.folder), "-p", str(primary.port), "-U", OWNER]
        command = [
            *as_owner(), str(primary.programs / "pg_basebackup"), *source, "-D", str(standby.data),
            "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=STARTING)  # noqa: S603 - a program of Debian's package
        with _running(standby):
            yield standby


@contextmanager
def _folder(settings: Mapping[str, str]) -> Iterator[Path]:
    in_memory = settings.get("fsync") == "off" and _IN_MEMORY.is_dir()
    in_memory = in_memory and shutil.disk_usage(_IN_MEMORY).free > ROOM
    folder = Path(tempfile.mkdtemp(prefix="kmsconn-postgres-", dir=_IN_MEMORY if in_memory else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _running(cluster: Cluster) -> Iterator[None]:
    try:
        cluster.start()
        yield
    finally:
        cluster.stop()


def _make_data(cluster: Cluster) -> None:
    """Make the data of a new cluster: who comes by the socket is trusted, others need the password."""
    password_file = cluster.folder / "password"
    password_file.write_text(cluster.password)
    for path in (cluster.folder, password_file):
        give_to_owner(path)
    command = [
        *as_owner(), str(cluster.programs / "initdb"), "-D", str(cluster.data), "-U", OWNER, "--pwfile", str(password_file),
        "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=STARTING)  # noqa: S603 - a program of Debian's package
    password_file.unlink()


def _owner() -> pwd.struct_passwd | None:
    """Return whom the server runs as instead of root; None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


def give_to_owner(path: Path) -> None:
    """Let whom the server runs as read and write a file or folder."""
    if owner := _owner():
        os.chown(path, owner.pw_uid, owner.pw_gid)


def as_owner() -> list[str]:
    """Return the beginning of a command that runs as the owner, and is killed with this process."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise RuntimeError("setpriv is missing: install util-linux")
    owner = _owner()
    user = [] if owner is None else [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    return [setpriv, *user, "--pdeathsig=QUIT", "--"]
