"""Which key set is asked for: by the contract's version, by the option, always compressed for a migration, and as its preparation was."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import CompressedKeyConfig, KeyGenRequest, KeyGenSecretKeyConfig
from kmsconn.config.values import CompressedKeySets
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.keygen import KeySetForm, form_of
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import Choosing
from kmsconn.protocols.protobuf import decode
from tests.vectors import keys
from tests.vectors import later_keys as later

PLAIN, COMPRESSED = KeySetForm.PLAIN, KeySetForm.COMPRESSED
AUTO, ALWAYS, NEVER = CompressedKeySets.AUTO, CompressedKeySets.ALWAYS, CompressedKeySets.NEVER
KEY = 4 << 248 | 1


@pytest.mark.parametrize(
    ("existing", "later_contract", "option", "expected"),
    [
        (0, False, AUTO, PLAIN),
        (0, True, AUTO, COMPRESSED),
        (0, False, ALWAYS, COMPRESSED),
        (0, True, ALWAYS, COMPRESSED),
        (0, False, NEVER, PLAIN),
        (0, True, NEVER, PLAIN),
        (KEY, True, AUTO, COMPRESSED),
        (KEY, True, NEVER, COMPRESSED),
    ],
)
def test_the_form_of_a_new_ceremony(
    existing: int, later_contract: bool, option: CompressedKeySets, expected: KeySetForm
) -> None:
    assert form_of(existing, later_contract, option) is expected


def started(content: Any, before: str, option: CompressedKeySets) -> CompressedKeyConfig:
    """Return what the Core is asked for where a key's preparation was made as ``before``."""
    operation: Any = Fhevm(keys.SETTINGS.but(compressed_key_sets=option)).operations[content.kind]
    [call] = operation.start_calls(operation.chosen(content, operation.choose(content, before)), (), None)
    config = decode(KeyGenRequest, bytes(call.message)).keyset_config
    assert config is not None
    assert config.standard_keyset_config is not None
    return config.standard_keyset_config.compressed_key_config


@pytest.mark.parametrize("event", ["KeygenRequest fresh", "KeygenRequest migration"])
@pytest.mark.parametrize("option", CompressedKeySets)
def test_a_key_is_asked_for_as_it_was_prepared(event: str, option: CompressedKeySets) -> None:
    """Whatever the option has become since, and whichever contract asks for the key."""
    content: Any = later.profile().decode(later.log(event))
    assert started(content, PLAIN, option) is CompressedKeyConfig.CompressedNone
    assert started(content, COMPRESSED, option) is CompressedKeyConfig.CompressedAll
    assert started(keys.content("keygen_default"), COMPRESSED, option) is CompressedKeyConfig.CompressedAll


def test_a_key_without_a_known_preparation_goes_by_its_own_event() -> None:
    content: Any = later.profile().decode(later.log("KeygenRequest fresh"))
    assert started(content, "", AUTO) is CompressedKeyConfig.CompressedAll
    assert started(keys.content("keygen_default"), "", AUTO) is CompressedKeyConfig.CompressedNone


def test_a_key_continues_its_preparation() -> None:
    operations = later.profile().operations
    prep, *_ = later.ids("migration")
    for event, expected in (("KeygenRequest", (Kind.PREP_KEYGEN, prep)), ("PrepKeygenRequest", None)):
        content: Any = later.profile().decode(later.log(f"{event} migration"))
        operation = operations[content.kind]
        assert isinstance(operation, Choosing)
        assert operation.continues(content) == expected


def test_a_migration_names_its_key_and_has_its_compressed_key_set_copied() -> None:
    content: Any = later.profile().decode(later.log("KeygenRequest migration"))
    [call] = later.profile().operations[Kind.KEYGEN].start_calls(content, (), None)
    message = decode(KeyGenRequest, bytes(call.message))
    info, config = message.keyset_added_info, message.keyset_config
    assert info is not None
    assert info.existing_keyset_id is not None
    assert (info.existing_keyset_id.request_id, info.use_existing_key_tag) == (f"{KEY:064x}", True)
    assert info.copy_compressed_key_to_original
    assert config is not None
    assert config.standard_keyset_config is not None
    assert config.standard_keyset_config.secret_key_config is KeyGenSecretKeyConfig.UseExisting
