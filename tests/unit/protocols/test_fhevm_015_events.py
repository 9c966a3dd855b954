"""Requests of KMSGeneration 0.3.0 as contents: a fresh key, and the migration of a key."""

from __future__ import annotations

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm.abi import LATER_KMS_GENERATION
from kmsconn.protocols.fhevm.aborts import AbortKeygen
from kmsconn.protocols.fhevm.keygen import Keygen, PrepKeygen
from kmsconn.protocols.fhevm.profile import EVENTS
from tests.vectors import keys
from tests.vectors import later_keys as later

EXTRA_DATA = from_hex(later.load()["ids"]["extra_data"])
both = pytest.mark.parametrize("case", later.CASES)


@both
def test_a_preparation_names_the_key_that_it_migrates(case: str) -> None:
    prep, _, existing = later.ids(case)
    expected = PrepKeygen(prep, 0, EXTRA_DATA, existing_id=existing, compresses=True)
    assert EVENTS.decode(later.log(f"PrepKeygenRequest {case}")) == expected


@both
def test_a_key_names_its_preparation_and_the_key_that_it_migrates(case: str) -> None:
    prep, key, existing = later.ids(case)
    expected = Keygen(prep, key, EXTRA_DATA, existing_id=existing, compresses=True)
    assert EVENTS.decode(later.log(f"KeygenRequest {case}")) == expected


@both
def test_the_id_of_a_preparation_is_found_where_the_log_cannot_be_read(case: str) -> None:
    """The proof of completeness counts it all the same."""
    assert EVENTS.id_of(later.log(f"PrepKeygenRequest {case}")) == later.ids(case)[0]


def test_an_abort_is_the_same_in_both_contracts() -> None:
    prep, *_ = later.ids("migration")
    assert EVENTS.decode(later.log("AbortKeygen migration")) == AbortKeygen(prep)


@pytest.mark.parametrize("name", ["KmsContextDestroyed", "KmsEpochDestroyed"])
def test_an_end_of_the_vectors_is_read(name: str) -> None:
    log = later.log(name)
    content = EVENTS.decode(log)
    assert content is not None
    assert content.id == int.from_bytes(log.topics[1])


def test_a_request_of_0_2_0_is_of_a_fresh_key() -> None:
    for name in ("prep_keygen_default", "keygen_default"):
        content = keys.content(name)
        assert (content.existing_id, content.compresses) == (0, False)


def test_parameters_that_have_no_name_are_undecodable() -> None:
    event = LATER_KMS_GENERATION.event("PrepKeygenRequest")
    topics, data = event.encode(1, 1, 0, b"")
    spoilt = data[:63] + b"\x02" + data[64:]
    with pytest.raises(Undecodable):
        EVENTS.decode(attrs.evolve(later.log("PrepKeygenRequest fresh"), topics=topics, data=spoilt))
