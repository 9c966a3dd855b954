"""Secrets out of files: hex keys, the Core's signing key file, tokens. Reads at most a few bytes, shows none, warns about open modes."""

from __future__ import annotations

import stat
from collections.abc import Callable
from io import BytesIO
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
    return _read(place, path, findings, _hex_key)


def read_signing_key_file(place: str, path: Path, findings: Findings) -> Secret | None:
    """Return the key that a signing key file of the Core holds, or None after noting why there is none."""
    return _read(place, path, findings, _signing_key)


def read_token(place: str, path: Path, findings: Findings) -> Secret | None:
    """Return the token that a file holds, or None after noting why there is none."""
    return _read(place, path, findings, _token, "write one with: openssl rand -hex 32")


def _hex_key(data: bytes) -> str:
    if not data.isascii():
        raise ValueError("does not hold a private key as hex")
    return data.decode("ascii").strip()


def _signing_key(data: bytes) -> str:
    try:
        return read_signing_key(data).hex()
    except ValueError as error:
        raise ValueError(f"is no signing key file of the Core: {error}") from None


def _token(data: bytes) -> str:
    token = data.decode("latin-1").strip()
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        least = f"at least {_SHORTEST_TOKEN} printable characters without spaces"
        raise ValueError(f"holds no token: it must be {least}")
    return token


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


def _read(
    place: str, path: Path, findings: Findings, decode: Callable[[bytes], str], remedy: str = ""
) -> Secret | None:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_KEY_FILE)
    except OSError as error:
        findings.fault(place, f"{path} cannot be read: {error.strerror}")
        return None
    warn_if_open(path, findings)
    try:
        return Secret(decode(data))
    except ValueError as error:
        findings.fault(place, f"{path} {error}", remedy)
        return None


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
    file = BytesIO(data[:LARGEST_SIGNING_KEY_FILE])
    _expect_text(file, "0.5", "the version of the header")
    _expect_number(file, 0, 4, "the header's variant")
    _expect_text(file, "0.1", "the version of the versioning scheme")
    _expect_text(file, "PrivateSigKey", "the name of the type")
    _expect_number(file, 0, 4, "the version of the type")
    _expect_number(file, _KEY_BYTES, 8, "the length of the key")
    return _take(file, _KEY_BYTES, "the key")


def _take(file: BytesIO, size: int, what: str) -> bytes:
    part = file.read(size)
    if len(part) < size:
        raise ValueError(f"the file ends within {what}")
    return part


def _expect_number(file: BytesIO, expected: int, size: int, what: str) -> None:
    found = int.from_bytes(_take(file, size, what), "little")
    if found != expected:
        raise ValueError(f"{what} is {found}, not {expected}")


def _expect_text(file: BytesIO, expected: str, what: str) -> None:
    _expect_number(file, len(expected), 8, f"the length of {what}")
    if _take(file, len(expected), what) != expected.encode():
        raise ValueError(f"{what} is not {expected}")
