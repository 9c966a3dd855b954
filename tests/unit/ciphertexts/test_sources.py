"""Where a ciphertext may be had: in which order, and who is shown credentials."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.ciphertexts.places import Substitute
from kmsconn.ciphertexts.sources import AGAIN, MOST, BothForms, BucketStanding, ByPlace, CandidateBucket, Race
from kmsconn.errors import Rejected, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import CiphertextReference

REFERENCE = CiphertextReference(b"\x0a" * 32, 1, b"\x0d" * 32, (Address(bytes(20)),))
HANDLE, DIGEST = "0a" * 32, "0d" * 32
OWN = Substitute("eu-west-1", "spare", "http://minio:9000")


class Registry:
    def __init__(self, *buckets: str) -> None:
        self.known = list(buckets)

    async def find(self, _: Any) -> list[str]:
        await trio.lowlevel.checkpoint()
        if self.known == ["unknown"]:
            raise Unreachable("nobody could be looked up")
        return self.known


class Anything:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: name


def both_forms(*buckets: str) -> BothForms:
    return BothForms(Anything(), Registry(*buckets).find)  # type: ignore[arg-type]


def by_place(*buckets: str, instead: Substitute | None = None) -> ByPlace:
    return ByPlace(Anything(), Registry(*buckets).find, Anything(), instead)  # type: ignore[arg-type]


async def shown(sources: BothForms | ByPlace) -> list[list[str]]:
    return [[source.shown for source in bucket.ways()] for bucket in await sources.of(REFERENCE)]


async def test_each_bucket_has_both_forms_the_handle_first_and_a_place_its_digest_alone() -> None:
    assert await shown(both_forms("https://a", "https://b/ct/")) == [
        [f"https://a/ct128/{HANDLE}/1", f"https://a/{DIGEST}"],
        [f"https://b/ct/ct128/{HANDLE}/1", f"https://b/ct/{DIGEST}"],
    ]
    place = by_place("http://minio:9000/s3/us-east-1/ct128")
    assert await shown(place) == [[f"http://minio:9000/ct128/{DIGEST}"]]


async def test_the_form_that_was_found_last_is_asked_first_in_that_bucket() -> None:
    sources = both_forms("https://a/", "https://b")
    by_handle, by_digest = (await sources.of(REFERENCE))[0].ways()
    sources.found("https://a/", by_digest)
    assert [next(iter(bucket.ways())).address for bucket in await sources.of(REFERENCE)] == [
        by_digest.address,
        f"https://b/ct128/{HANDLE}/1",
    ]
    sources.found("https://a/", by_handle)
    first, _ = (await sources.of(REFERENCE))[0].ways()
    assert first.address == by_handle.address


@pytest.mark.parametrize(
    ("bucket", "url"),
    [
        ("https://b.s3.eu-west-1.amazonaws.com", f"https://b.s3.eu-west-1.amazonaws.com/{DIGEST}"),
        ("https://s3.eu-west-1.amazonaws.com/b", f"https://s3.eu-west-1.amazonaws.com/b/{DIGEST}"),
        ("http://minio:9000/ct128", f"http://minio:9000/ct128/{DIGEST}"),
    ],
)
async def test_aws_and_the_operators_own_endpoint_are_shown_credentials_afterwards(
    bucket: str, url: str
) -> None:
    assert await shown(by_place(bucket, instead=OWN)) == [[url, f"{url} with credentials"]]


@pytest.mark.parametrize(
    "bucket",
    [
        "https://amazonaws.com.evil.example/b",
        "https://s3.eu-west-1.amazonaws.com.evil.example/b",
        "http://s3.eu-west-1.amazonaws.com/b",
        "http://minio:9001/b",
        "https://minio:9000/b",
    ],
)
async def test_nobody_else_is_ever_shown_credentials(bucket: str) -> None:
    """Addresses come from a chain: a session token must not be had by registering one."""
    [found] = await by_place(bucket, instead=OWN).of(REFERENCE)
    assert [way.manner for way in found.ways()] == [""]


async def test_the_operators_bucket_stands_in_where_no_coprocessor_has_one_or_can_be_looked_up() -> None:
    url = f"http://minio:9000/spare/{DIGEST}"
    assert await shown(by_place(instead=OWN)) == [[url, f"{url} with credentials"]]
    assert await shown(by_place()) == []
    assert await shown(by_place("unknown", instead=OWN)) == await shown(by_place(instead=OWN))
    with pytest.raises(Unreachable, match="looked up"):
        await shown(by_place("unknown"))


async def test_the_object_by_handle_carries_its_buckets_attestation() -> None:
    """Shadow mode takes it from there."""
    [found] = await both_forms("https://a/ct").of(REFERENCE)
    assert [form.attested_by for form in found.ways()] == ["https://a/ct", ""]


async def test_a_repr_shows_no_address() -> None:
    """It may hold a key in its user info or query."""
    [found] = await both_forms("https://user:secret@a").of(REFERENCE)
    source, _ = found.ways()
    assert "secret" not in repr(found) + repr(source) + source.shown


BUCKETS = [CandidateBucket(f"https://{name}/ct", tuple) for name in "abc"]


def order(standing: BucketStanding, now: float) -> str:
    return "".join(bucket.address[len("https://")] for bucket in standing.in_turn(BUCKETS, now))


def test_what_gave_nothing_goes_behind_the_others_in_the_old_order() -> None:
    standing = BucketStanding()
    standing.gave(BUCKETS[1].address)
    assert standing.in_turn(BUCKETS, 0.0) is BUCKETS, "as long as all give it stays"
    standing.gave_nothing(BUCKETS[1].address, 0.0)
    assert order(standing, 1.0) == "acb"
    standing.gave_nothing(BUCKETS[0].address, 0.0)
    assert order(standing, 1.0) == "cab"
    standing.gave("https://a/other")
    assert order(standing, 1.0) == "acb", "an object of any path gives it its turn again"
    standing.gave_nothing(BUCKETS[0].address, 0.0)
    standing.gave_nothing(BUCKETS[2].address, 0.0)
    assert order(standing, 1.0) == "abc"


def test_it_has_its_turn_again_once_in_a_while() -> None:
    standing = BucketStanding()
    standing.gave_nothing(BUCKETS[0].address, 0.0)
    assert order(standing, AGAIN - 0.1) == "bca"
    assert order(standing, AGAIN) == "abc"
    assert order(standing, AGAIN) == "bca"
    assert order(standing, 2 * AGAIN) == "abc"


def test_a_flood_of_addresses_takes_no_more_room() -> None:
    standing = BucketStanding()
    for number in range(MOST + 5):
        standing.gave_nothing(f"https://bucket{number}", 0.0)
    assert len(standing._again) == MOST


def test_it_is_calm_until_a_bucket_gives_nothing_and_a_while_after_the_last_that_did() -> None:
    """What was given in between proves nothing: where all are slow, each would be cut after a second."""
    standing = BucketStanding()
    assert standing.calm_from <= 0.0
    standing.gave_nothing(BUCKETS[0].address, 0.0)
    standing.gave(BUCKETS[0].address)
    assert standing.calm_from == AGAIN


def way(result: Any, *, after: Any = 0.0, log: Any = None) -> Any:
    async def run() -> Any:
        try:
            await trio.sleep(after)
        except trio.Cancelled:
            if log is not None:
                log.append(f"{result} cancelled")
            raise
        if isinstance(result, Exception):
            raise result
        return result

    return run


async def first_success(ways: Any, hedge_delay: float, *, calm: bool = True) -> Any:
    """Go the first way alone where that is ``calm``, as a fetcher does."""
    race = Race[Any](ways, hedge_delay)
    if calm and len(ways) > 1:
        with trio.move_on_after(hedge_delay):
            race.begun = True
            await race.go(race.ways[0])
    if not race.won:
        await race.run()
    return race.won[0]


@pytest.mark.parametrize(
    ("ways", "won", "seconds"),
    [
        ([way("a", after=0.5), way("b")], "a", 0.5),
        ([way(Unreachable("down")), way("b", after=0.1)], "b", 0.1),
        ([way("a", after=60)], "a", 60),
    ],
    ids=["a quick first way", "a failure starts the next at once", "the only way has all the time"],
)
async def test_the_first_way_that_succeeds_wins(ways: list[Any], won: str, seconds: float) -> None:
    assert await first_success(ways, 1.0) == won
    assert trio.current_time() == seconds


async def test_all_reasons_are_told_when_every_way_fails_or_there_is_none() -> None:
    with pytest.raises(Unreachable, match="one; two"):
        await first_success([way(Unreachable("one")), way(Unreachable("two"), after=5)], 1.0)
    with pytest.raises(Unreachable, match="no bucket is left to ask"):
        await first_success([], 1.0)


async def test_a_slow_way_is_overtaken_and_cancelled() -> None:
    log: list[Any] = []
    assert await first_success([way("a", after=100, log=log), way("b", after=0.2)], 1.0) == "b"
    assert trio.current_time() == 1.2
    assert log == ["a cancelled"] * 2  # once alone, once beside


@pytest.mark.parametrize(("calm", "seconds"), [(False, 3), (True, 4)])
async def test_a_slow_way_may_still_win(calm: bool, seconds: float) -> None:
    """Where it went alone it began anew."""
    ways = [way("a", after=3), way(Unreachable("x"), after=1), way("c", after=60)]
    assert await first_success(ways, 1.0, calm=calm) == "a"
    assert trio.current_time() == seconds


async def test_a_terminal_error_is_not_hidden() -> None:
    with pytest.raises(Rejected, match="never"):
        await first_success([way(Rejected("never")), way("b")], 1.0)
    with pytest.raises(ExceptionGroup) as caught:
        await first_success([way(Rejected("never")), way("b")], 1.0, calm=False)
    assert caught.group_contains(Rejected)


@pytest.mark.parametrize("calm", [False, True])
@pytest.mark.parametrize("at", [0.0, 0.5, 0.9, 1.5])
async def test_cancellation_ends_every_way(at: Any, calm: bool) -> None:
    log: list[Any] = []
    with trio.move_on_after(at) as scope:
        await first_success([way("a", after=9, log=log), way("b", after=9, log=log)], 1.0, calm=calm)
    assert scope.cancelled_caught
    assert len(log) == (2 + calm if at >= 1 else 1)


@pytest.mark.parametrize("first", [way("a"), way("a", after=0.9)])
async def test_a_quick_first_way_takes_no_task(first: Any) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def alone() -> Any:
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        return await first()

    assert await first_success([alone, way("b")], 1.0) == "a"
