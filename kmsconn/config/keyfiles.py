"""Secrets out of files: hex keys, the Core's signing key file, tokens. Reads at most a few bytes, shows none, warns about open modes."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kmsconn.config.findings import Findings
from kmsconn.config.values import Secret

_LARGEST_KEY_FILE = 4096
_KEY_BYTES = 32
_SHORTEST_TOKEN = 16


def read_secret(
    place: str, path: Path, findings: Findings, decode: Callable[[bytes], str], remedy: str = ""
) -> Secret | None:
    """Return what a file holds as ``decode`` reads it, or None after noting why there is nothing."""
    warn_if_open(path, findings)
    try:
        return secret_in(path, decode)
    except ValueError as error:
        findings.fault(place, str(error), remedy)
        return None


def secret_in(path: Path, decode: Callable[[bytes], str]) -> Secret:
    """Read the secret that a file holds at present. Raises ValueError that says why there is none, and shows nothing of it."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_KEY_FILE)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return Secret(decode(data))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def hex_key(data: bytes) -> str:
    """Return the text of a key file. Raises ValueError."""
    if not data.isascii():
        raise ValueError("does not hold a private key as hex")
    return data.decode("ascii").strip()


def signing_key(data: bytes) -> str:
    """Return the key of a signing key file of the Core. Raises ValueError."""
    try:
        return read_signing_key(data).hex()
    except ValueError as error:
        raise ValueError(f"is no signing key file of the Core: {error}") from None


def token(data: bytes) -> str:
    """Return the token of a file. Raises ValueError."""
    found = data.decode("latin-1").strip()
    if len(found) < _SHORTEST_TOKEN or not found.isascii() or not found.isprintable() or " " in found:
        least = f"at least {_SHORTEST_TOKEN} printable characters without spaces"
        raise ValueError(f"holds no token: it must be {least}")
    return found


def password(data: bytes) -> str:
    """Return the password of a file, without the end of its line. Raises ValueError."""
    line = data.rstrip(b"\r\n")
    if not line or b"\n" in line or b"\0" in line:
        raise ValueError("holds no password: it must be one line that is not empty")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError("holds no password: it is not UTF-8 text") from None


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


def _text(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


_HEADER: Final = (
    ("the version of the header", _text("0.5")),
    ("the header's variant", bytes(4)),
    ("the version of the versioning scheme", _text("0.1")),
    ("the name of the type", _text("PrivateSigKey")),
    ("the version of the type", bytes(4)),
    ("the length of the key", _KEY_BYTES.to_bytes(8, "little")),
)


def read_signing_key(data: bytes) -> bytes:
    """Return the 32 bytes of the key in a file that the KMS Core wrote. Raises ValueError that names the part which is wrong.

    bincode with fixed-width little-endian integers, 91 bytes; what follows is passed over. Source: httpz-rc7.md 5.2 and A.5.
    """
    for what, expected in _HEADER:
        part, data = data[: len(expected)], data[len(expected) :]
        if part != expected:
            ends = len(part) < len(expected)
            raise ValueError(f"the file ends within {what}" if ends else f"{what} is another one")
    if len(data) < _KEY_BYTES:
        raise ValueError("the file ends within the key")
    return data[:_KEY_BYTES]
