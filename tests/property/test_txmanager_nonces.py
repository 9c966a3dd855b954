"""Laws of the nonce plan, against whatever flies and whatever is open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmsconn.replies.plan import plan
from kmsconn.replies.view import gaps, top

nonces = st.integers(0, 12)
Sight = tuple[int, frozenset[int], int, frozenset[int], list[int | None]]
"""The chain's nonce, what flies, the highest seen used, ripe holes, earlier nonces of new replies."""

flying_sets = st.frozensets(nonces, max_size=8)


@st.composite
def sights(draw: st.DrawFn) -> Sight:
    chain, high, flying = draw(nonces), draw(nonces), draw(flying_sets)
    open_ones = gaps(chain, flying, high, 100)
    ripe = frozenset(draw(st.lists(st.sampled_from(open_ones)))) if open_ones else frozenset[int]()
    kept = draw(
        st.lists(nonces.filter(lambda one: one >= chain and one not in flying), unique=True, max_size=6)
    )
    return chain, flying, high, ripe, draw(st.permutations([*kept, *[None] * draw(st.integers(0, 4))]))


@given(sights())
def test_no_nonce_is_given_twice_below_the_chains_or_while_it_flies(sight: Sight) -> None:
    chain, flying, high, ripe, kept = sight
    made, _ = plan(chain, flying, high, ripe, kept)
    assert len(made) == len(kept)
    assert len(set(made)) == len(kept)
    assert not flying & set(made)
    assert all(nonce >= chain for nonce in made)


@given(sights())
def test_a_new_nonce_is_a_ripe_hole_or_beyond_everything_known_without_a_gap(sight: Sight) -> None:
    chain, flying, high, ripe, kept = sight
    made, _ = plan(chain, flying, high, ripe, kept)
    new = [nonce for nonce, old in zip(made, kept, strict=True) if nonce != old]
    again = {nonce for nonce, old in zip(made, kept, strict=True) if nonce == old}
    edge = top(chain, flying | again, high)
    beyond = sorted(nonce for nonce in new if nonce not in ripe)
    assert beyond == list(range(edge, edge + len(beyond)))


@given(sights())
def test_what_is_unfilled_is_ripe_open_and_below_something_that_flies(sight: Sight) -> None:
    chain, flying, high, ripe, kept = sight
    made, unfilled = plan(chain, flying, high, ripe, kept)
    held = flying | set(made)
    assert set(unfilled) <= ripe - held
    assert all(nonce < max(held) for nonce in unfilled)


@given(sights())
def test_an_open_nonce_of_earlier_bytes_is_taken_again(sight: Sight) -> None:
    chain, flying, high, ripe, kept = sight
    made, _ = plan(chain, flying, high, ripe, kept)
    assert all(old in {None, nonce} for nonce, old in zip(made, kept, strict=True))
