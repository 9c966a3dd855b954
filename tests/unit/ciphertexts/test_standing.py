"""Which bucket is asked first, when some of them gave nothing of late."""

from __future__ import annotations

from kmsconn.ciphertexts.sources import AGAIN, MOST, BucketStanding, CandidateBucket

BUCKETS = [CandidateBucket(f"https://{name}/ct", tuple) for name in "abc"]


def order(standing: BucketStanding, now: float) -> str:
    return "".join(bucket.address[len("https://")] for bucket in standing.in_turn(BUCKETS, now))


def test_as_long_as_all_give_the_order_stays() -> None:
    standing = BucketStanding()
    standing.gave(BUCKETS[1].address)
    assert standing.in_turn(BUCKETS, 0.0) is BUCKETS


def test_what_gave_nothing_goes_behind_the_others_in_the_old_order() -> None:
    standing = BucketStanding()
    standing.gave_nothing(BUCKETS[1].address, 0.0)
    assert order(standing, 1.0) == "acb"
    standing.gave_nothing(BUCKETS[0].address, 0.0)
    assert order(standing, 1.0) == "cab"
    standing.gave_nothing(BUCKETS[2].address, 0.0)
    assert order(standing, 1.0) == "abc"


def test_it_has_its_turn_again_once_in_a_while() -> None:
    standing = BucketStanding()
    standing.gave_nothing(BUCKETS[0].address, 0.0)
    assert order(standing, AGAIN - 0.1) == "bca"
    assert order(standing, AGAIN) == "abc"
    assert order(standing, AGAIN) == "bca"
    assert order(standing, 2 * AGAIN) == "abc"


def test_it_is_in_its_turn_for_all_once_it_gave_an_object_of_any_path() -> None:
    standing = BucketStanding()
    standing.gave_nothing("https://a/ct", 0.0)
    standing.gave("https://a/other")
    assert order(standing, 1.0) == "abc"


def test_a_flood_of_addresses_takes_no_more_room() -> None:
    standing = BucketStanding()
    for number in range(MOST + 5):
        standing.gave_nothing(f"https://bucket{number}", 0.0)
    assert len(standing._again) == MOST


def test_it_is_calm_until_a_bucket_gives_nothing_and_a_while_after_the_last_that_did() -> None:
    """What was given in between proves nothing: where all are slow, each would be cut after a second."""
    standing = BucketStanding()
    assert standing.is_calm(0.0)
    standing.gave_nothing(BUCKETS[0].address, 0.0)
    standing.gave(BUCKETS[0].address)
    assert not standing.is_calm(AGAIN - 0.1)
    assert standing.is_calm(AGAIN)
