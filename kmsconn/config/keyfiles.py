"""The wallet's key from wherever it is kept: option, key file, systemd credential. Never shows it, and never guesses between two."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from kmsconn.config.findings import Findings
from kmsconn.config.settings import Secret
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.signing import PrivateKey

_CREDENTIAL = "private_key"
_LARGEST_KEY_FILE = 4096


@attrs.frozen
class Wallet:
    """A key that can sign, where it was found, and the address it signs for."""

    place: str
    key: Secret
    address: Address


def find_wallet(values: Mapping[str, Any], findings: Findings, environ: Mapping[str, str]) -> Secret | None:
    """Return the one wallet's key, or None after noting why there is none. Two different wallets are a fault that names both.

    The 0.14 sender would silently take the hex key (options.md).
    """
    before = len(findings.faults)
    wallets = [wallet for wallet in _candidates(values, findings, environ) if wallet is not None]
    _refuse_two(wallets, findings)
    if not wallets and len(findings.faults) == before and not _is_given(findings):
        findings.fault(
            "private_key", "no wallet is configured", "set private_key_file, or KMS_CONNECTOR_PRIVATE_KEY"
        )
    return wallets[0].key if wallets else None


def _is_given(findings: Findings) -> bool:
    """Say whether a wallet was given, so that what is wrong with it has been noted already."""
    return bool({"private_key", "private_key_file"} & findings.given.keys()) or any(
        "AWS KMS" in fault.message for fault in findings.faults
    )


def _candidates(
    values: Mapping[str, Any], findings: Findings, environ: Mapping[str, str]
) -> Iterator[Wallet | None]:
    if values.get("private_key") is not None:
        yield _wallet(findings.given["private_key"].place, values["private_key"], findings)
    if values.get("private_key_file") is not None:
        yield _from_file(findings.given["private_key_file"].place, values["private_key_file"], findings)
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory and (Path(directory) / _CREDENTIAL).is_file():
        yield _from_file("CREDENTIALS_DIRECTORY", Path(directory) / _CREDENTIAL, findings)


def _from_file(place: str, path: Path, findings: Findings) -> Wallet | None:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_KEY_FILE).decode("ascii")
    except OSError as error:
        findings.fault(place, f"{path} cannot be read: {error.strerror}")
        return None
    except UnicodeDecodeError:
        findings.fault(place, f"{path} does not hold a private key as hex")
        return None
    warn_if_open(path, findings)
    return _wallet(place, Secret(text.strip()), findings)


def _wallet(place: str, key: Secret, findings: Findings) -> Wallet | None:
    try:
        return Wallet(place, key, PrivateKey.parse(key.reveal()).address)
    except ValueError:
        findings.fault(
            place, "does not hold a private key: 64 hex digits, 0x optional, within the curve's order"
        )
        return None


def _refuse_two(wallets: list[Wallet], findings: Findings) -> None:
    if len({wallet.address for wallet in wallets}) > 1:
        named = " and ".join(f"{checksum(wallet.address)} by {wallet.place}" for wallet in wallets)
        findings.fault("private_key", f"two wallets are configured: {named}", "keep one")


def warn_if_open(path: Path, findings: Findings) -> None:
    """Warn about a file that others than its owner may read or write."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        findings.warn(str(path), f"has mode {mode:04o}: others than its owner may reach it", "chmod 600")
