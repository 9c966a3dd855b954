"""Attestations: every vector, the laws behind them, and ciphertexts behind which a quorum of the coprocessors must stand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from kmsconn.ciphertexts.attestation import (
    ATTESTATION_HEADER,
    BIG_COMPRESSED,
    BIG_EXPANDED,
    COPROCESSOR_CONTEXT_ID,
    FORMAT_HEADER,
    Attestation,
    StoredFormat,
    ciphertext_format,
    consensus,
    is_genuine,
    parse_attestation,
    signed_bytes,
    signed_digest,
)
from kmsconn.ciphertexts.budget import ByteBudget, Lease
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.ciphertexts.sources import BothForms
from kmsconn.emulator import buckets as bucket_faults
from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.ciphertexts import sign_attestation
from kmsconn.errors import NoCiphertext, NotAttested, Undecodable, Unreachable
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from kmsconn.transport.ports import offload_inline
from tests.faults.hostile.connections import METADATA
from tests.unit.ciphertexts.test_comparing import KEY, ONE, REFERENCE, STRANGER, Place, open_place
from tests.unit.ciphertexts.test_fetch import SENDERS
from tests.vectors import load

GROUP: dict[str, Any] = load()["attestations"]
VALID = [pytest.param(case, id=f"{case['ciphertext']} {case['coprocessor']}") for case in GROUP["valid"]]
VARIANTS = [pytest.param(case, id=case["name"]) for case in GROUP["variants"]]
CONSENSUS = [pytest.param(case, id=case["name"]) for case in GROUP["consensus"]]
HANDLE = bytes(range(32))
KEYS = [PrivateKey(bytes(31) + bytes([n])) for n in range(1, 6)]
SIGNERS = frozenset(key.address for key in KEYS)


def attested(key: PrivateKey, **changes: Any) -> Attestation:
    """Return what a coprocessor says, signed."""
    plain = Attestation(7, bytes(32), b"\x01" * 32, StoredFormat.COMPRESSED_ON_CPU, key.address, b"")
    return sign_attestation(HANDLE, attrs.evolve(plain, **changes), key)


# The vectors.


def test_there_are_as_many_vectors_as_the_specification_says() -> None:
    assert [len(GROUP[name]) for name in ("valid", "variants", "consensus")] == [13, 27, 7]
    assert (GROUP["header_name"], GROUP["coprocessor_context_id"]) == (
        ATTESTATION_HEADER,
        COPROCESSOR_CONTEXT_ID,
    )


@pytest.mark.parametrize("case", VALID)
def test_a_valid_one_is_read_hashed_and_verified(case: dict[str, Any]) -> None:
    attestation, handle = parse_attestation(case["header"]), from_hex(case["handle"])
    assert signed_bytes(handle, attestation) == from_hex(case["signed_bytes"])
    assert signed_digest(handle, attestation) == from_hex(case["digest"])
    assert attestation.signature == from_hex(case["signature"])
    assert attestation.signer == parse_address(case["signer"])
    assert is_genuine(handle, attestation)


@pytest.mark.parametrize("case", VARIANTS)
def test_a_variant_is_read_or_not_and_verifies_or_not(case: dict[str, Any]) -> None:
    try:
        attestation = parse_attestation(case["header"])
    except Undecodable:
        attestation = None
    assert (attestation is not None) == case["parses"]
    assert (attestation is not None and is_genuine(from_hex(case["handle"]), attestation)) == case["verifies"]
    assert ciphertext_format({ATTESTATION_HEADER: case["header"]}) == case["ciphertext_format"]


@pytest.mark.parametrize("case", CONSENSUS)
def test_a_quorum_is_found_as_in_the_vectors(case: dict[str, Any]) -> None:
    registered = frozenset(parse_address(entry["signer"]) for entry in GROUP["valid"])
    found = consensus(
        from_hex(case["handle"]),
        [parse_attestation(header) for header in case["headers"]],
        registered,
        case["threshold"],
    )
    assert (shown(found[0]) if found else None) == case["winner"]


def shown(found: Attestation) -> dict[str, str]:
    """Return a winner's claim as the vectors write it."""
    return {
        "key_id": hex(found.key_id),
        "ciphertext_digest": "0x" + found.ciphertext_digest.hex(),
        "sns_ciphertext_digest": "0x" + found.sns_ciphertext_digest.hex(),
        "format": found.format.name.lower(),
    }


@pytest.mark.parametrize("field", ["ciphertext_digest", "signer", "signature"])
@pytest.mark.parametrize("wrong", [" {}", "{} ", "0x {}", "0x_{}"])
def test_hex_with_anything_between_is_undecodable(field: str, wrong: str) -> None:
    content = json.loads(GROUP["valid"][0]["header"])
    digits = content[field].removeprefix("0x")
    with pytest.raises(Undecodable):
        parse_attestation(json.dumps({**content, field: wrong.format(digits)}))


# The laws.


@pytest.mark.parametrize("field", ["key_id", "ciphertext_digest", "sns_ciphertext_digest", "format"])
def test_every_field_is_signed(field: str) -> None:
    others: dict[str, Any] = {
        "key_id": 8,
        "ciphertext_digest": b"\x02" * 32,
        "sns_ciphertext_digest": b"\x02" * 32,
        "format": StoredFormat.UNCOMPRESSED_ON_CPU,
    }
    genuine = attested(KEYS[0])
    assert is_genuine(HANDLE, genuine)
    assert not is_genuine(bytes(32), genuine), "the handle is signed, too"
    assert not is_genuine(HANDLE, attrs.evolve(genuine, **{field: others[field]}))


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "7", '"x"', "\x00", "{" * 2000])
def test_what_is_no_attestation_is_undecodable(text: str) -> None:
    with pytest.raises(Undecodable, match="attestation header"):
        parse_attestation(text)


@pytest.mark.parametrize("key_id", ["0x1" + "0" * 64, "7", "0x", "", "-0x1", "0x_1"])
def test_a_key_id_that_is_none_is_undecodable(key_id: str) -> None:
    content = json.loads(GROUP["valid"][0]["header"])
    with pytest.raises(Undecodable):
        parse_attestation(json.dumps({**content, "key_id": key_id}))


@pytest.mark.parametrize("stored", StoredFormat)
@pytest.mark.parametrize("attestation", [None, "no attestation"])
def test_without_an_attestation_the_format_header_counts(
    stored: StoredFormat, attestation: str | None
) -> None:
    headers = {FORMAT_HEADER: stored.name.lower()}
    if attestation is not None:
        headers[ATTESTATION_HEADER] = attestation
    assert ciphertext_format(headers) == (
        BIG_COMPRESSED if stored.name.startswith("COMPRESSED") else BIG_EXPANDED
    )


@pytest.mark.parametrize("headers", [{}, {FORMAT_HEADER: ""}, {FORMAT_HEADER: "COMPRESSED_ON_CPU"}])
def test_an_object_that_says_nothing_is_expanded(headers: dict[str, str]) -> None:
    assert ciphertext_format(headers) == BIG_EXPANDED


ALONE = attested(KEYS[0], key_id=1)
TWO = [attested(key, key_id=9) for key in KEYS[1:3]]


@pytest.mark.parametrize(
    ("said", "signers", "threshold", "winners"),
    [
        pytest.param([], SIGNERS, 1, [], id="nobody"),
        pytest.param(TWO, frozenset({KEYS[1].address}), 2, [], id="a stranger"),
        pytest.param([ALONE, *TWO], SIGNERS, 1, TWO, id="the larger group wins over the smaller claim"),
        pytest.param([ALONE, *TWO], SIGNERS, 3, [], id="a larger group below the threshold"),
    ],
)
def test_a_quorum_is_of_registered_signers_that_say_the_same(
    said: list[Attestation], signers: frozenset[Address], threshold: int, winners: list[Attestation]
) -> None:
    assert consensus(HANDLE, said, signers, threshold) == tuple(winners)


@pytest.mark.parametrize("depth", [500, 5_000, 16_000])
@pytest.mark.parametrize("closed", [True, False])
def test_a_header_nested_however_deep_is_none(depth: int, closed: bool) -> None:
    """A header has room for 16,000 brackets: the error of the recursion quarantined the request, and ended the shadow."""
    text = '{"x":' + "[" * depth + ("]" * depth + "}" if closed else "")
    with pytest.raises(Undecodable):
        parse_attestation(text)
    assert ciphertext_format({ATTESTATION_HEADER: text}) == BIG_EXPANDED


@pytest.mark.parametrize("headers", METADATA.values(), ids=METADATA)
def test_whatever_a_bucket_writes_into_the_header_is_told(headers: dict[str, str]) -> None:
    """What nests deeply ends the reader of JSON itself on some Pythons, and was no error of ours."""
    with pytest.raises(Undecodable):
        parse_attestation(headers.get(ATTESTATION_HEADER, ""))
    assert ciphertext_format(headers) == BIG_EXPANDED


BARE = CiphertextReference.bare(ONE.handle)
WRONG = ONE.digest[:-1] + bytes([ONE.digest[-1] ^ 1])


@attrs.define
class Scene:
    """The three buckets of the shadow's tests, and what fetches from them."""

    place: Place
    enforced: bool = True
    fetched: list[CiphertextReference] = attrs.field(factory=list)

    async def fetch(self, reference: CiphertextReference) -> Ciphertext:
        quorum = self.place.shadow.quorum
        scene = self

        class Noted(BothForms):
            async def of(self, reference: CiphertextReference) -> Any:
                scene.fetched.append(reference)
                return await super().of(reference)

        fetcher = Fetcher(
            Noted(quorum.http, quorum.registry.find),
            quorum.policy,
            offload_inline,
            1 << 20,
            quorum=quorum,
            enforced=self.enforced,
        )
        with Lease(ByteBudget(1 << 20)) as lease:
            return await fetcher.fetch(reference, lease)

    def gets(self) -> list[int]:
        """How many objects each bucket was asked for."""
        counts = [one.bucket.counts for one in self.place.buckets]
        return [sum(n for (method, _), n in count.items() if method == "GET") for count in counts]


@asynccontextmanager
async def open_scene(*, enforced: bool = True) -> AsyncIterator[Scene]:
    async with open_place() as place:
        place.store_all()
        yield Scene(place, enforced)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with open_scene() as scene:
        yield scene


both = pytest.mark.parametrize("reference", [REFERENCE, BARE], ids=["whole", "bare"])


@both
async def test_what_a_quorum_attests_is_fetched(scene: Scene, reference: CiphertextReference) -> None:
    found = await scene.fetch(reference)
    assert (found.handle, found.body, found.key_id, found.format) == (
        ONE.handle,
        ONE.body,
        KEY,
        BIG_COMPRESSED,
    )
    assert [(one.key_id, one.digest) for one in scene.fetched] == [(KEY, ONE.digest)]


async def test_where_it_is_not_enforced_the_chains_word_counts_and_nobody_is_asked() -> None:
    async with open_scene(enforced=False) as scene:
        await scene.fetch(REFERENCE)
        assert scene.fetched == [REFERENCE]
        assert scene.place.asked == [1, 0, 0]


async def test_a_bare_handle_needs_a_quorum_even_where_none_is_enforced() -> None:
    async with open_scene(enforced=False) as scene:
        scene.place.store(0, key_id=9)
        scene.place.store(1, key_id=8)
        with pytest.raises(Unreachable, match="3 attestations were found, but no 2 of them agree"):
            await scene.fetch(BARE)
        assert scene.fetched == []


@both
async def test_a_lying_minority_is_asked_for_no_bytes(scene: Scene, reference: CiphertextReference) -> None:
    """Not even where the chain names that coprocessor alone, as here."""
    scene.place.store(0, sns_ciphertext_digest=WRONG)
    assert (await scene.fetch(reference)).body == ONE.body
    assert scene.fetched[0].coprocessors == (SENDERS[1], SENDERS[2])
    assert scene.gets()[0] == 0


@both
async def test_a_bucket_of_the_quorum_that_holds_other_bytes_is_passed_over(
    scene: Scene, reference: CiphertextReference
) -> None:
    bucket = scene.place.buckets[0].bucket
    bucket.put(ObjectForm.HANDLE.key(ONE), b"malicious", bucket.objects[ObjectForm.HANDLE.key(ONE)].headers)
    assert (await scene.fetch(reference)).body == ONE.body


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"sns_ciphertext_digest": WRONG}, f"the digest 0x{WRONG.hex()}"), ({"key_id": 9}, "the key 0x9")],
    ids=["digest", "key"],
)
async def test_a_quorum_that_contradicts_the_chain_is_waited_out(
    scene: Scene, changes: dict[str, Any], named: str
) -> None:
    scene.place.store_all(**changes)
    with pytest.raises(Unreachable, match=f"{ONE.handle.hex()} is not attested: attested is {named}"):
        await scene.fetch(REFERENCE)
    assert scene.gets() == [0, 0, 0]


@both
@pytest.mark.parametrize("silent", [(0, 1), (0, 2), (1, 2), (0, 1, 2)])
async def test_without_a_quorum_nothing_is_fetched(
    scene: Scene, silent: Sequence[int], reference: CiphertextReference
) -> None:
    for index in silent:
        scene.place.buckets[index].bucket.objects.clear()
    with pytest.raises(Unreachable, match=f"{3 - len(silent)} attestations were found"):
        await scene.fetch(reference)
    assert scene.gets() == [0, 0, 0]


@both
async def test_strangers_are_no_quorum(scene: Scene, reference: CiphertextReference) -> None:
    scene.place.store_all(signer=STRANGER)
    with pytest.raises(Unreachable, match="no 2 of them agree"):
        await scene.fetch(reference)


async def test_the_format_is_the_attested_one_not_that_of_the_object_that_was_taken(scene: Scene) -> None:
    for one in scene.place.buckets:
        one.bucket.objects[ObjectForm.HANDLE.key(ONE)] = attrs.evolve(
            one.bucket.objects[ObjectForm.HANDLE.key(ONE)], body=b""
        )
        one.bucket.put(ONE.digest.hex(), ONE.body, ((FORMAT_HEADER, "uncompressed_on_cpu"),))
    found = await scene.fetch(REFERENCE)
    assert (found.body, found.format) == (ONE.body, BIG_COMPRESSED)


async def test_buckets_that_all_have_no_ciphertext_are_told_from_silent_ones(scene: Scene) -> None:
    for one in scene.place.buckets:
        one.bucket.objects.clear()
    with pytest.raises(NoCiphertext):
        await scene.fetch(BARE)
    scene.place.buckets[2].strike(bucket_faults.RefusingBucket(code=500))
    with pytest.raises(Unreachable) as caught:
        await scene.fetch(BARE)
    assert type(caught.value) is Unreachable


@both
async def test_buckets_that_answer_are_compared_with_what_a_quorum_needs(
    scene: Scene, reference: CiphertextReference
) -> None:
    for index, for_all in ((0, False), (1, True)):
        scene.place.buckets[index].strike(bucket_faults.RefusingBucket(code=500))
        scene.place.buckets[2].bucket.objects.clear()
        with pytest.raises(Unreachable) as caught:
            await scene.fetch(reference)
        assert caught.value.for_all is for_all
    assert "1 of 3 buckets answer, and a quorum needs 2" in str(caught.value)


async def test_coprocessors_that_disagree_are_told_from_missing_ones(scene: Scene) -> None:
    scene.place.store(0, key_id=9)
    scene.place.store(1, key_id=8)
    with pytest.raises(NotAttested) as caught:
        await scene.fetch(BARE)
    assert type(caught.value) is NotAttested
