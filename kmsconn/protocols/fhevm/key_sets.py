"""Which key set is asked of the Core: fresh or of an existing key, compressed or not. Never builds a whole request.

A preparation is of use only for the key set that it was made for, and all nodes of a context must ask for the same one: their digests
differ otherwise, and no reply reaches its quorum. Source: fhevm-0.15.md, 1.5.
"""

from __future__ import annotations

from enum import StrEnum

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.config.values import CompressedKeySets
from kmsconn.protocols.fhevm.messages import request_id


class KeySetForm(StrEnum):
    """The form of a key set, as the journal keeps it with the requests of one ceremony."""

    PLAIN = "plain"
    COMPRESSED = "compressed"


def form_of(existing_id: int, contract_compresses: bool, option: CompressedKeySets) -> KeySetForm:
    """Return the form of a new ceremony: the option decides, or the contract's version; a migration is compressed in any case."""
    by_version = option is CompressedKeySets.AUTO
    compressed = contract_compresses if by_version else option is CompressedKeySets.ALWAYS
    return KeySetForm.COMPRESSED if compressed or existing_id else KeySetForm.PLAIN


def config_of(existing_id: int, form: KeySetForm) -> kms.KeySetConfig:
    """Return the configuration that preparation and key have alike; the inner message is present even where it is empty."""
    compressed = form is KeySetForm.COMPRESSED
    return kms.KeySetConfig(
        standard_keyset_config=kms.StandardKeySetConfig(
            secret_key_config=kms.KeyGenSecretKeyConfig(int(existing_id != 0)),
            compressed_key_config=kms.CompressedKeyConfig.CompressedAll
            if compressed
            else kms.CompressedKeyConfig.CompressedNone,
        )
    )


def added_info_of(existing_id: int) -> kms.KeySetAddedInfo | None:
    """Return what a migration says of the key that it migrates: its compressed key set is copied to that key; None for a fresh key."""
    if not existing_id:
        return None
    return kms.KeySetAddedInfo(
        existing_keyset_id=request_id(existing_id),
        use_existing_key_tag=True,
        copy_compressed_key_to_original=True,
    )
