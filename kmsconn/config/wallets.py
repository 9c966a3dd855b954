"""Which wallet the configuration means: AWS KMS, key file, hex or mnemonic. Never shows a key, never falls through to another source.

Under fhevm two different wallets are a fault that names both (the 0.14 sender would silently take the hex key). Under httpz-rc7
the first in that generation's order counts, and only that one is read (httpz-rc7.md 5.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.config.assembly import Written, hex_key, read_secret, signing_key
from kmsconn.config.description import ROLES, AwsKmsKey, Mode, Role, Secret
from kmsconn.config.options import Findings
from kmsconn.config.parties import WalletSettings
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.mnemonics import is_test_phrase, key_of_phrase
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.requests import HTTPZ_RC7

MAIN_NETWORKS: Final = frozenset({1, 261131})
"""Chains that a wallet sends to and where money is at stake: Ethereum and the mainnet's Gateway (fhevm-0.14.md, annex D)."""

_CREDENTIALS = "CREDENTIALS_DIRECTORY"
_KEYS = ("aws_kms_config.", "signing_key_path", "private_key", "mnemonic")
_ACCOUNTS = 2**32


@attrs.frozen
class FoundWallet:
    """A key that can sign, where it was found, and the address it signs for, as far as that is known here."""

    place: str
    key: Secret | AwsKmsKey
    address: Address | None = None

    def __str__(self) -> str:
        """Name it by its address, else by what will tell the address."""
        return f"{'an AWS KMS key' if self.address is None else checksum(self.address)} by {self.place}"


KeySource = tuple[str, Callable[[], FoundWallet | None]]
"""One configured place of a wallet, and how it is read."""


def wallet_of(written: Written) -> WalletSettings | None:
    """Return the one wallet, or None after noting why there is none. Reads the files that hold keys."""
    values = written.values
    names = (written.table.named(name) for name in ("gateway_chain_id", "ethereum_chain_id"))
    chain_ids = {values.get(name) for name in names}
    key = find_wallet(values, written.findings, written.environ, chain_ids)
    if written.findings.faults:
        return None
    hidden = key if isinstance(key, Secret) else None
    return WalletSettings(hidden, key if isinstance(key, AwsKmsKey) else None, values["tx_sender_address"])


def find_wallet(
    values: Mapping[str, Any], findings: Findings, environ: Mapping[str, str], chain_ids: set[int | None]
) -> Secret | AwsKmsKey | None:
    """Return the key of the one wallet, which sends to these chains, or None after noting why there is none.

    A shadow, or a process that leaves sending to others, needs none where its account is named, and never sends, so a raw key is no risk on
    a main network.
    """
    findings.require("aws_kms_config.key_id", beside=("aws_kms_config.region", "aws_kms_config.endpoint"))
    sources = list(_sources(values, findings, environ))
    named = values["tx_sender_address"]
    sends = values["mode"] is not Mode.SHADOW and Role.SEND in (values.get("roles") or ROLES)
    if not sources:
        if sends or named is None:
            _note_missing(findings, sends=sends)
        return None
    if values["profile"] == HTTPZ_RC7:
        for place, _ in sources[1:]:
            findings.warn(place, f"is not used: {sources[0][0]} comes first")
        sources = sources[:1]
    wallets = [wallet for _, read in sources if (wallet := read()) is not None]
    _refuse_two(wallets, findings)
    for wallet in wallets[:1]:
        _refuse_another_sender(wallet, named, findings)
        if not values["allow_raw_key_on_mainnet"] and sends:
            _refuse_raw_key(wallet, chain_ids, findings)
    return wallets[0].key if wallets else None


def account_index(values: Mapping[str, Any]) -> int:
    """Return the number of the mnemonic's account: the option's, else the one at the end of the service name, else 0 (5.1)."""
    if values["account_index"] is not None:
        return int(values["account_index"])
    _, dash, number = (values["service_name"] or "").rpartition("-")
    fits = dash and number.isascii() and number.isdigit() and int(number) < _ACCOUNTS
    return int(number) if fits else 0


def _sources(
    values: Mapping[str, Any], findings: Findings, environ: Mapping[str, str]
) -> Iterator[KeySource]:
    """Yield what is configured, in the order of httpz-rc7; nothing is read yet."""
    folder = environ.get(_CREDENTIALS)
    credential = Path(folder) / "private_key" if folder else None
    found = {**values, _CREDENTIALS: credential if credential and credential.is_file() else None}
    readers: dict[str, Callable[[str, Any, Findings], FoundWallet | None]] = {
        "aws_kms_config.key_id": partial(_aws_wallet, values),
        "signing_key_path": partial(_from_file, signing_key),
        "private_key": _hex_wallet,
        "private_key_file": partial(_from_file, hex_key),
        _CREDENTIALS: partial(_from_file, hex_key),
        "mnemonic": partial(_from_mnemonic, values),
    }
    for name, read in readers.items():
        if found[name] is not None:
            place = name if name == _CREDENTIALS else findings.given[name].place
            yield place, partial(read, place, found[name], findings)


def _aws_wallet(values: Mapping[str, Any], place: str, key_id: str, _: Findings) -> FoundWallet:
    region, endpoint = (values[f"aws_kms_config.{name}"] for name in ("region", "endpoint"))
    return FoundWallet(place, AwsKmsKey(key_id, region, endpoint))


def _from_file(
    decode: Callable[[bytes], str], place: str, path: Path, findings: Findings
) -> FoundWallet | None:
    key = read_secret(place, path, findings, decode)
    return None if key is None else _hex_wallet(place, key, findings)


def _hex_wallet(place: str, key: Secret, findings: Findings) -> FoundWallet | None:
    try:
        return FoundWallet(place, key, PrivateKey.parse(key.reveal()).address)
    except ValueError as error:
        findings.fault(place, f"invalid private key: {error}")
        return None


def _from_mnemonic(
    values: Mapping[str, Any], place: str, phrase: Secret, findings: Findings
) -> FoundWallet | None:
    try:
        key = key_of_phrase(phrase.reveal(), account_index(values))
    except ValueError as error:
        findings.fault(place, f"Invalid mnemonic: {error}")
        return None
    if is_test_phrase(phrase.reveal()):
        findings.warn(place, "is the well-known test phrase, whose keys are public", "create your own")
    return _hex_wallet(place, Secret(key.hex()), findings)


def _note_missing(findings: Findings, *, sends: bool) -> None:
    """Say that no wallet is configured, unless one was given and what is wrong with it has been noted already."""
    if any(name.startswith(_KEYS) for name in findings.given):
        return
    if not sends:
        found = "a process that sends nothing does not know for which node it works"
        remedy = "set tx_sender_address to the address that sends the node's replies"
        findings.fault("tx_sender_address", found, remedy)
    else:
        others = "KMS_CONNECTOR_PRIVATE_KEY, signing_key_path, mnemonic or aws_kms_config"
        findings.fault("private_key", "no wallet is configured", f"set private_key_file, or {others}")


def _refuse_two(wallets: list[FoundWallet], findings: Findings) -> None:
    if len(wallets) > 1 and (None in (found := {wallet.address for wallet in wallets}) or len(found) > 1):
        named = " and ".join(str(wallet) for wallet in wallets)
        findings.fault("private_key", f"two wallets are configured: {named}", "keep one")


def _refuse_another_sender(wallet: FoundWallet, named: Address | None, findings: Findings) -> None:
    if named is not None and wallet.address is not None and wallet.address != named:
        found = f"is {checksum(named)}, and the wallet is {wallet}"
        findings.fault("tx_sender_address", found, "name the wallet's address, or leave it out")


def _refuse_raw_key(wallet: FoundWallet, chain_ids: set[int | None], findings: Findings) -> None:
    """A key that lies in a file or a variable is stolen with it: on a main network the operator must have meant it."""
    main = MAIN_NETWORKS & chain_ids
    if main and isinstance(wallet.key, Secret):
        found = f"is a raw key, and chain {min(main)} is a main network"
        findings.fault(wallet.place, found, "use aws_kms_config, or set allow_raw_key_on_mainnet = true")
