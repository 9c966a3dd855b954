"""The state: undo, checkpoints, overlays."""

from __future__ import annotations

from kmsconn.emulator.execution import MISSING, NO_CHANGES, ChainState, Overlay, difference

A, B = ("a",), ("b",)


def test_a_key_never_written_has_the_default() -> None:
    assert ChainState().get(A, 7) == 7


def test_a_written_value_is_read() -> None:
    state = ChainState()
    state.set(A, 1)
    assert state.get(A) == 1


def test_a_rollback_takes_back_the_writes_since_its_mark_only() -> None:
    state = ChainState()
    state.set(A, 1)
    mark = state.checkpoint()
    state.set(A, 2)
    state.set(B, 2)
    state.rollback(mark)
    assert (state.get(A), state.get(B)) == (1, None)


def test_sealed_changes_hold_the_value_before_the_block_and_the_last_one() -> None:
    state = ChainState()
    state.set(A, 1)
    state.seal()
    state.set(A, 2)
    state.set(A, 3)
    assert state.seal() == {A: (1, 3)}


def test_an_empty_block_shares_one_object() -> None:
    assert ChainState().seal() is NO_CHANGES


def test_taking_back_a_block_restores_what_was_missing() -> None:
    state = ChainState()
    state.set(A, 1)
    state.take_back(state.seal())
    assert state.get(A, MISSING) is MISSING


def test_a_write_outside_blocks_survives_taking_back() -> None:
    state = ChainState()
    state.set_always(A, 1)
    state.set(B, 1)
    state.take_back(state.seal())
    assert state.get(A) == 1


def test_an_overlay_reads_the_past() -> None:
    state = ChainState()
    state.set(A, 1)
    first = state.seal()
    state.set(A, 2)
    second = state.seal()
    assert Overlay(state, difference([second])).get(A) == 1
    assert Overlay(state, difference([second, first])).get(A, "none") == "none"


def test_an_overlay_reads_a_branch() -> None:
    state = ChainState()
    state.set(A, 1)
    old = state.seal()
    state.take_back(old)
    state.set(A, 2)
    assert Overlay(state, difference([state.seal()], [old])).get(A) == 1


def test_an_overlay_does_not_write_through() -> None:
    state = ChainState()
    overlay = Overlay(state, {})
    overlay.set(A, 1)
    assert (overlay.get(A), state.get(A)) == (1, None)


def test_a_fresh_overlay_forgets_writes() -> None:
    overlay = Overlay(ChainState(), {B: 2})
    overlay.set(A, 1)
    assert (overlay.fresh().get(A), overlay.fresh().get(B)) == (None, 2)
