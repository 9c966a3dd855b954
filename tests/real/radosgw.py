"""Ceph's S3 server as a process on a free loopback port, without a cluster: objects lie in SQLite. Makes no bucket."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kmsconn.emulator.network import reserve_ports
from tests.real.store_client import ACCESS_KEY, SECRET_KEY

STARTING = 20.0  # seconds on a busy machine; undisturbed it is 0.1
ATTEMPTS = 3  # the command that makes the user may hang
S3_DOMAIN = "s3.eu-west-1.amazonaws.com"
WEBSITE_DOMAIN = "s3-website.eu-west-1.amazonaws.com"

_CONFIGURATION = """\
[global]
rgw_backend_store = dbstore
rgw_config_store = dbstore
dbstore_db_dir = {folder}
dbstore_config_uri = file:{folder}/config.db
rgw_data = {folder}
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_dns_name = {s3_domain}
rgw_dns_s3website_name = {website_domain}
rgw_enable_static_website = true
rgw_enable_apis = s3, s3website
admin_socket =
log_file = {folder}/log
keyring = {folder}/keyring
"""


@contextmanager
def open_radosgw(folder: Path) -> Iterator[int]:
    """Run a fresh server with one user while the block lasts, and give its port."""
    with reserve_ports(1) as (port,):
        process = _started(folder, port)
        try:
            yield port
        finally:
            process.kill()
            process.wait()


def _started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    for attempt in range(ATTEMPTS):
        place = folder / str(attempt)
        place.mkdir()
        common = _configured(place, port)
        if not _made_user(common):
            continue
        process = subprocess.Popen(["radosgw", *common, "--foreground"], **_QUIET)  # noqa: S603, S607
        if _listens(process, port):
            return process
        process.kill()
        process.wait()
    raise AssertionError(f"radosgw did not start; the end of its log: {(place / 'log').read_text()[-1000:]}")


_QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}


def _configured(place: Path, port: int) -> list[str]:
    text = _CONFIGURATION.format(folder=place, port=port, s3_domain=S3_DOMAIN, website_domain=WEBSITE_DOMAIN)
    (place / "ceph.conf").write_text(text)
    return ["--conf", str(place / "ceph.conf"), "--no-mon-config"]


def _made_user(common: list[str]) -> bool:
    """Make the user; False where the command does not end: seldom, it waits for a thread of its own that missed being told to stop."""
    keys = ["--uid=tests", "--display-name=tests", f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}"]
    command = ["radosgw-admin", *common, "user", "create", *keys]
    try:
        subprocess.run(command, check=True, timeout=STARTING, **_QUIET)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return True


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
