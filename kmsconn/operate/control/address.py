"""The address of a Unix socket: a path of any length, though the system takes 107 bytes. Opens no socket."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kmsconn.config.settings import Settings
from kmsconn.config.storage import socket_name

LONGEST: Final = 107  # bytes, on Linux (unix(7)); fewer elsewhere


def control_path(settings: Settings) -> Path:
    """Return where the control socket of a connector stands: as configured, else beside its journal.

    With a journal in PostgreSQL the configuration's reader names one, and settings from elsewhere get one in the current folder.
    """
    storage = settings.storage
    if storage.control_socket is not None:
        return storage.control_socket
    if isinstance(storage.journal, Path):
        return storage.journal.with_name(storage.journal.name + ".sock")
    return Path(socket_name(settings))


@contextmanager
def address_of(path: Path) -> Generator[str]:
    """Give an address for a path, while the block lasts: where it is too long, by way of its folder. Raises OSError."""
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
