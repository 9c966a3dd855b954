"""One journal, one process."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kmsconn.errors import StartRefused
from kmsconn.journal.sqlite import lock_path, locked
from tests.unit.journal.samples import opened


def test_a_second_holder_is_refused_and_told_the_file_and_the_first_keeps_the_lock(path: Path) -> None:
    with locked(path):
        for _ in range(2):
            with pytest.raises(StartRefused, match=r"journal\.db\.lock"), locked(path):
                pass


def test_the_lock_is_given_back_after_an_error_too_and_its_file_stays(path: Path) -> None:
    """Were it deleted, two processes could hold two files of one name."""
    for _ in range(2):
        with pytest.raises(KeyError), locked(path):
            raise KeyError
        with locked(path):
            pass
        assert lock_path(path).exists()


def test_the_lock_file_is_its_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with locked(path):
            assert stat.S_IMODE(lock_path(path).stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_link_leads_to_the_same_lock(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    db = opened(path)
    with pytest.raises(StartRefused, match="in use"):
        opened(link)
    db.close()


def test_a_second_name_of_the_file_is_refused(path: Path) -> None:
    """It would have a lock of its own, and a write-ahead log of its own."""
    second = path.with_name("second.db")
    db = opened(path)
    second.hardlink_to(path)
    with pytest.raises(StartRefused, match=r"second\.db has 2 names .*hard links.*; remove"):
        opened(second)
    db.close()
    second.unlink()
    opened(path).close()
