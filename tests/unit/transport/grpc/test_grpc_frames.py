"""Frames cut out of bytes, and the small pieces that they are made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hyperframe.frame import Frame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from kmsconn.emulator.http2 import Collected
from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.frames import (
    DATA,
    END_STREAM,
    LARGEST_WINDOW,
    Allowance,
    Claim,
    Credit,
    Cutter,
    ErrorCode,
    Http2Error,
    PeerSettings,
    Window,
    code_name,
    settings_frame,
)
from kmsconn.transport.grpc.streams import Message, Outbox, Streams

LIMIT = 100
ONE, TWO = frames.frame(frames.DATA, 1, 3, b"one"), frames.frame(frames.PING, 0, 0, b"12345678")


def cut(cutter: Cutter, *chunks: bytes) -> list[tuple[int, int, int, bytes]]:
    """Return the frames of these chunks."""
    return [
        (kind, flags, stream, bytes(payload))
        for chunk in chunks
        for kind, flags, stream, payload in cutter.cut(chunk)
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (frames.frame(frames.PING, frames.ACK, 0, b"12345678"), PingFrame(0, b"12345678", flags=["ACK"])),
        (frames.word_frame(frames.RST_STREAM, 3, 8), RstStreamFrame(3, error_code=8)),
        (frames.word_frame(frames.WINDOW_UPDATE, 5, 99), WindowUpdateFrame(5, window_increment=99)),
        (settings_frame({1: 0, 4: 2**20}), SettingsFrame(0, settings={1: 0, 4: 2**20})),
    ],
)
def test_a_frame_is_made_as_another_library_makes_it(ours: bytes, theirs: Frame) -> None:
    assert ours == theirs.serialize()


def test_a_large_frame_has_its_size_in_three_bytes() -> None:
    assert frames.head(frames.DATA, 0, 1, 0x123456)[:3] == b"\x12\x34\x56"


def test_whole_frames_come_out_in_order() -> None:
    assert cut(Cutter(LIMIT), ONE + TWO) == [(0, 1, 3, b"one"), (6, 0, 0, b"12345678")]
    assert cut(Cutter(LIMIT), b"") == []
    assert cut(Cutter(LIMIT), frames.frame(0, 0, 0x8000_0003))[0][2] == 3, "the reserved bit is no part"
    assert len(cut(Cutter(LIMIT), frames.frame(0, 0, 1, bytes(LIMIT)))[0][3]) == LIMIT


@pytest.mark.parametrize("split", [3, 9, 12])
def test_a_larger_frame_is_refused_as_soon_as_its_size_is_known(split: int) -> None:
    data = frames.head(frames.DATA, 0, 1, LIMIT + 1) + b"xxx"
    cutter = Cutter(LIMIT)
    with pytest.raises(Http2Error, match="101 bytes") as caught:
        cut(cutter, data[:split], data[split:])
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


def test_a_frame_before_a_faulty_one_comes_out_first() -> None:
    frames_of = Cutter(LIMIT).cut(ONE + frames.head(0, 0, 1, LIMIT + 1))
    assert bytes(next(frames_of)[3]) == b"one"
    with pytest.raises(Http2Error):
        next(frames_of)


# Padding and priority.


@pytest.mark.parametrize(
    ("payload", "data"), [(b"\x00data", b"data"), (b"\x02data??", b"data"), (b"\x02??", b""), (b"\x00", b"")]
)
def test_padding_is_cut_off(payload: bytes, data: bytes) -> None:
    assert bytes(frames.unpadded(frames.PADDED, memoryview(payload))) == data
    assert bytes(frames.unpadded(0, memoryview(payload))) == payload


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", ErrorCode.FRAME_SIZE_ERROR),
        (b"\x01", ErrorCode.PROTOCOL_ERROR),
        (b"\x05data", ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_padding_that_does_not_fit_is_a_fault(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(Http2Error) as caught:
        frames.unpadded(frames.PADDED, memoryview(payload))
    assert caught.value.code is code


def test_a_priority_in_front_of_headers_is_cut_off() -> None:
    assert bytes(frames.without_priority(frames.WITH_PRIORITY, memoryview(b"12345block"))) == b"block"
    assert bytes(frames.without_priority(0, memoryview(b"block"))) == b"block"
    with pytest.raises(Http2Error, match="too short"):
        frames.without_priority(frames.WITH_PRIORITY, memoryview(b"1234"))


# Numbers and names.


@pytest.mark.parametrize(
    ("read", "size"),
    [
        *((frames.only_word, size) for size in (0, 3, 5, 8)),
        *((PeerSettings().after, size) for size in (1, 5, 7)),
    ],
)
def test_numbers_and_settings_of_another_size_are_a_fault(
    read: Callable[[memoryview], object], size: int
) -> None:
    with pytest.raises(Http2Error) as caught:
        read(memoryview(bytes(size)))
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


def test_codes_have_their_names_and_others_their_number() -> None:
    assert (code_name(7), code_name(99)) == ("REFUSED_STREAM", "code 99")


STANDARD = PeerSettings(65_535, 16_384, frames.MOST_STREAMS)
SAID = PeerSettings(7, 20_000, 5)


@pytest.mark.parametrize(
    ("before", "values", "expected"),
    [
        pytest.param(PeerSettings(), {}, STANDARD, id="before anything is said the standard's values hold"),
        pytest.param(STANDARD, {3: 5, 4: 7, 5: 20_000}, SAID, id="what is said holds"),
        pytest.param(SAID, {4: 9}, PeerSettings(9, 20_000, 5), id="what is not said again stays"),
        pytest.param(STANDARD, {1: 0, 6: 100, 8: 1, 0xFFFF: 2**32 - 1}, STANDARD, id="what nobody knows is passed over"),
        pytest.param(SAID, {4: 0}, PeerSettings(0, 20_000, 5), id="the smallest window"),
        pytest.param(SAID, {4: 2**31 - 1}, PeerSettings(2**31 - 1, 20_000, 5), id="the largest one"),
    ],
)  # fmt: skip
def test_settings_after_a_frame(before: PeerSettings, values: dict[int, int], expected: PeerSettings) -> None:
    assert before.after(memoryview(SettingsFrame(0, settings=values).serialize())[9:]) == expected


def test_of_two_values_the_last_holds() -> None:
    twice = memoryview(settings_frame({4: 1})[9:] + settings_frame({4: 2})[9:])
    assert PeerSettings().after(twice).initial_window == 2


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


def out(outbox: Outbox, budget: int = 1_000_000) -> list[tuple[int, int, bytes]]:
    """Return stream, flags and data of the next frames."""
    frames = list(Cutter(100_000).cut(b"".join(outbox.fill(budget))))
    assert all(kind == DATA for kind, *_ in frames)
    return [(stream, flags, bytes(data)) for _, flags, stream, data in frames]


def sizes(outbox: Outbox, budget: int = 1_000_000) -> list[tuple[int, int]]:
    return [(stream, len(data)) for stream, _, data in out(outbox, budget)]


def message(stream: int, *parts: bytes, window: int = 1_000_000) -> Message:
    return Message(stream, Window(window), deque(memoryview(part) for part in parts if part))


def holding(*messages: Message) -> Outbox:
    """Return an outbox with these messages."""
    outbox = Outbox()
    outbox.turns.extend(messages)
    return outbox


def test_pieces_share_a_frame_and_the_last_frame_ends_the_stream() -> None:
    outbox = holding(message(1, b"a", b"", b"bc"))
    assert out(outbox) == [(1, END_STREAM, b"abc")]
    assert out(outbox) == []


def test_a_frame_is_no_larger_than_the_peer_takes_and_the_budget_ends_a_burst_at_the_next() -> None:
    frames = out(holding(message(1, bytes(40_000))))
    assert [(flags, len(data)) for _, flags, data in frames] == [(0, 16_384), (0, 16_384), (1, 7232)]
    assert sizes(holding(message(1, bytes(60_000))), 20_000) == [(1, 16_384), (1, 16_384)]


def test_messages_take_turns() -> None:
    outbox = holding(message(1, bytes(30_000)), message(3, bytes(30_000)))
    assert [stream for stream, _ in sizes(outbox, 16_384)] == [1]
    assert [stream for stream, _ in sizes(outbox)] == [3, 1, 3]


def test_a_message_whose_window_is_shut_lets_others_pass() -> None:
    assert sizes(holding(message(1, b"wait", window=0), message(3, b"go"))) == [(3, 2)]


def test_the_bytes_wait_as_views_of_the_caller_s_pieces() -> None:
    outbox, part = Outbox(), bytes(range(256)) * 100
    outbox.turns.append(message(1, part))
    views = [piece for piece in outbox.fill(1_000_000) if isinstance(piece, memoryview)]
    assert all(view.obj is part for view in views)
    assert b"".join(views) == part


def test_of_what_was_dropped_nothing_is_kept_while_the_window_is_closed() -> None:
    """A peer that grants nothing and answers pings: call after call is given up."""
    outbox = Outbox()
    outbox.window.left = 0
    streams = Streams(outbox)
    for stream in range(1, 200, 2):
        given_up = streams.open((), [b"x"], Collected([], stream))
        streams.close(given_up)
        streams.close(given_up)
    assert len(outbox.turns) == 0


@pytest.mark.parametrize(("taken", "granted"), [([49], 0), ([30, 20], 50), ([100], 100)])
def test_credit_is_granted_again_once_half_of_it_is_used_up(taken: list[int], granted: int) -> None:
    credit = Credit(100)
    credit.left -= sum(taken)
    assert credit.grant() == granted
    assert credit.left == 100 - sum(taken) + granted


def test_a_window_may_become_negative_and_is_never_larger_than_31_bits() -> None:
    window = Window(10)
    assert window.widen(-30)
    assert window.left == -20
    assert Window(0).widen(LARGEST_WINDOW)
    assert not Window(1).widen(LARGEST_WINDOW)


@pytest.mark.parametrize(
    ("asked", "at_once", "given_back", "then", "used"),
    [
        pytest.param([60, 40], [0, 1], 0, [], 40, id="what fits is let in"),
        pytest.param([60, 50], [0], 0, [1], 50, id="what does not waits for room"),
        pytest.param([60, 90, 10], [0], 0, [1, 2], 100, id="nobody overtakes who asked before"),
        pytest.param([60, 90, 40], [0], 1, [2], 100, id="who leaves while waiting lets the next one pass"),
        pytest.param([500, 1], [0], 0, [1], 1, id="one alone may be larger than all there is"),
    ],
)
def test_who_may_come_in_and_who_waits(
    asked: list[int], at_once: list[int], given_back: int, then: list[int], used: int
) -> None:
    allowance, let_in, claims = Allowance(100), list[int](), list[Claim]()
    for name, size in enumerate(asked):
        claims.append(allowance.ask(size, lambda name=name: let_in.append(name)))  # type: ignore[misc]
    assert let_in == at_once
    assert allowance.used == sum(asked[name] for name in at_once)
    allowance.give_back(claims[given_back])
    assert let_in == [*at_once, *then]
    assert allowance.used == used


def test_all_is_free_once_all_is_given_back() -> None:
    allowance = Allowance(100)
    for claim in [allowance.ask(30 + number, lambda: None) for number in range(20)]:
        allowance.give_back(claim)
    assert allowance.used == 0
    assert not allowance._waiting
