"""One journal, one process: a locked file beside the journal. Never opens the journal itself.

The lock file stays when the lock is given back: deleting it would let two processes lock two different files of one name.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from kmsconn.errors import StartRefused


def lock_path(journal: Path) -> Path:
    """Return where the lock of a journal stands."""
    return journal.with_name(journal.name + ".lock")


@contextmanager
def locked(journal: Path) -> Generator[None]:
    """Hold the lock of a journal; the operating system gives it back when the process dies.

    Raises StartRefused when another process, or another journal object of this one, holds it; OSError when the file cannot be made.
    """
    descriptor = os.open(lock_path(journal), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, journal)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, journal: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StartRefused(
            f"the journal {journal} is in use by another process, which holds {lock_path(journal)}; "
            "stop that process or name another journal path"
        ) from error
