"""Secrets out of files: hex keys, the Core's signing key file, tokens. Reads at most a few bytes, shows none, warns about open modes."""

from __future__ import annotations

import stat
from pathlib import Path

from kmsconn.config import signing_key_file
from kmsconn.config.findings import Findings
from kmsconn.config.values import Secret

_LARGEST_KEY_FILE = 4096
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
    data = _read(place, path, signing_key_file.LARGEST, findings)
    if data is None:
        return None
    try:
        return Secret(signing_key_file.read_signing_key(data).hex())
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
