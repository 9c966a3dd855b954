"""What SETTINGS frames amount to."""

from __future__ import annotations

import pytest
from hyperframe.frame import SettingsFrame

from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.frames import ErrorCode, Http2Error, PeerSettings, settings_frame


def after(values: dict[int, int], before: PeerSettings = PeerSettings()) -> PeerSettings:
    return before.after(memoryview(SettingsFrame(0, settings=values).serialize())[9:])


def test_our_frame_is_that_of_another_library() -> None:
    assert settings_frame({1: 0, 4: 2**20}) == SettingsFrame(0, settings={1: 0, 4: 2**20}).serialize()


def test_before_anything_is_said_the_standard_s_values_hold() -> None:
    assert PeerSettings() == PeerSettings(65_535, 16_384, None)


def test_what_is_said_holds() -> None:
    values = {
        frames.MAX_CONCURRENT_STREAMS: 5,
        frames.INITIAL_WINDOW_SIZE: 7,
        frames.MAX_FRAME_SIZE: 20_000,
    }
    assert after(values) == PeerSettings(7, 20_000, 5)


def test_what_is_not_said_again_stays() -> None:
    assert after({4: 9}, PeerSettings(7, 20_000, 5)) == PeerSettings(9, 20_000, 5)


def test_of_two_values_the_last_holds() -> None:
    twice = memoryview(settings_frame({4: 1})[9:] + settings_frame({4: 2})[9:])
    assert PeerSettings().after(twice).initial_window == 2


def test_settings_that_nobody_knows_are_passed_over() -> None:
    assert after({0x1: 0, 0x6: 100, 0x8: 1, 0xFFFF: 2**32 - 1}) == PeerSettings()


@pytest.mark.parametrize(
    ("identifier", "value", "code"),
    [
        (2, 1, ErrorCode.PROTOCOL_ERROR),
        (4, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (5, 16_383, ErrorCode.PROTOCOL_ERROR),
        (5, 2**24, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_values_that_there_cannot_be_are_faults(identifier: int, value: int, code: ErrorCode) -> None:
    with pytest.raises(Http2Error) as caught:
        PeerSettings().after(memoryview(settings_frame({identifier: value})[9:]))
    assert caught.value.code is code


@pytest.mark.parametrize("size", [1, 5, 7])
def test_a_broken_size_is_a_fault(size: int) -> None:
    with pytest.raises(Http2Error) as caught:
        PeerSettings().after(memoryview(bytes(size)))
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize("value", [0, 2**31 - 1])
def test_the_smallest_and_the_largest_window_are_taken(value: int) -> None:
    assert after({4: value}).initial_window == value
