"""Secrets out of files: hex keys, the Core's signing key file, tokens. Reads at most a few bytes, shows none, warns about open modes."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from kmsconn.config.findings import Findings
from kmsconn.config.values import Secret

LARGEST_SIGNING_KEY_FILE: Final = 1024
"""Bytes of a signing key file that are read at most; what follows the key is passed over."""

_LARGEST_KEY_FILE = 4096
_KEY_BYTES = 32
_SHORTEST_TOKEN = 16


def read_hex_key(place: str, path: Path, findings: Findings) -> Secret | None:
    """Return the text of a key file, or None after noting why there is none."""
    data = _read(place, path, _LARGEST_KEY_FILE, findings)
    if data is None:
        return None
    try:
        return Secret(data.decode("ascii").strip())
    except UnicodeDecodeError:
        findings.fault(place, f"{path} does not hold a private key as hex")
        return None


def read_signing_key_file(place: str, path: Path, findings: Findings) -> Secret | None:
    """Return the key that a signing key file of the Core holds, or None after noting why there is none."""
    data = _read(place, path, LARGEST_SIGNING_KEY_FILE, findings)
    if data is None:
        return None
    try:
        return Secret(read_signing_key(data).hex())
    except ValueError as error:
        findings.fault(place, f"{path} is no signing key file of the Core: {error}")
        return None


def read_token(place: str, path: Path, findings: Findings) -> Secret | None:
    """Return the token that a file holds, or None after noting why there is none."""
    data = _read(place, path, _LARGEST_KEY_FILE, findings)
    if data is None:
        return None
    token = data.decode("latin-1").strip()
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        findings.fault(
            place,
            f"{path} holds no token: it must be at least {_SHORTEST_TOKEN} printable characters without spaces",
            "write one with: openssl rand -hex 32",
        )
        return None
    return Secret(token)


def read_password(place: str, path: Path, findings: Findings) -> Secret | None:
    """Return the password that a file holds, without the end of its line, or None after noting why there is none."""
    try:
        password = password_in(path)
    except ValueError as error:
        findings.fault(place, str(error))
        return None
    warn_if_open(path, findings)
    return password


def password_in(path: Path) -> Secret:
    """Read the password that a file holds at present. Raises ValueError that says why there is none, and shows nothing of it."""
    try:
        with path.open("rb") as file:
            password = file.read(_LARGEST_KEY_FILE).rstrip(b"\r\n")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if not password or b"\n" in password or b"\0" in password:
        raise ValueError(f"{path} holds no password: it must be one line that is not empty")
    try:
        return Secret(password.decode())
    except UnicodeDecodeError:
        raise ValueError(f"{path} holds no password: it is not UTF-8 text") from None


def _read(place: str, path: Path, most: int, findings: Findings) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(most)
    except OSError as error:
        findings.fault(place, f"{path} cannot be read: {error.strerror}")
        return None
    warn_if_open(path, findings)
    return data


def warn_if_open(path: Path, findings: Findings) -> None:
    """Warn about a file that others than its owner may read or write."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        findings.warn(
            str(path), f"has mode {mode:04o}: users other than its owner can access it", "chmod 600"
        )


# --- the signing key file of the Core


def read_signing_key(data: bytes) -> bytes:
    """Return the 32 bytes of the key in a file that the KMS Core wrote. Raises ValueError that names the part which is wrong.

    bincode with fixed-width little-endian integers, 91 bytes. Source: httpz-rc7.md 5.2 and A.5.
    """
    reader = _KeyFileReader(data[:LARGEST_SIGNING_KEY_FILE])
    reader.expect_text("0.5", "the version of the header")
    reader.expect_number(0, 4, "the header's variant")
    reader.expect_text("0.1", "the version of the versioning scheme")
    reader.expect_text("PrivateSigKey", "the name of the type")
    reader.expect_number(0, 4, "the version of the type")
    reader.expect_number(_KEY_BYTES, 8, "the length of the key")
    return reader.take(_KEY_BYTES, "the key")


class _KeyFileReader:
    """Parts of a file, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int, what: str) -> bytes:
        """Return the next bytes. Raises ValueError where the file ends before."""
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise ValueError(f"the file ends within {what}")
        self._at += size
        return part

    def expect_number(self, expected: int, size: int, what: str) -> None:
        """Pass over a number. Raises ValueError where it is another."""
        found = int.from_bytes(self.take(size, what), "little")
        if found != expected:
            raise ValueError(f"{what} is {found}, not {expected}")

    def expect_text(self, expected: str, what: str) -> None:
        """Pass over a text. Raises ValueError where it is another."""
        self.expect_number(len(expected), 8, f"the length of {what}")
        if self.take(len(expected), what) != expected.encode():
            raise ValueError(f"{what} is not {expected}")
