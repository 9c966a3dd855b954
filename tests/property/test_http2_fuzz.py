"""Fuzzing of HTTP/2: what servers say, spoiled in many ways, is taken or refused, and means to us what it means to h2.

``make fuzz SECONDS=n`` runs for a while from a fresh seed and prints what it did; the suite runs a bounded sample. A
failure names the number that replays it: ``KMSCONN_FUZZ_ONE=number``.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, pairwise

import pytest
import trio
from trio.testing import memory_stream_pair

from kmsconn.emulator.http2 import DataCame, Event
from kmsconn.errors import KmsconnError
from kmsconn.transport.grpc import frames, headers, http2
from kmsconn.transport.grpc.frames import Cutter, Http2Error, settings_frame
from kmsconn.transport.grpc.link import Link
from kmsconn.transport.grpc.streams import MAX_OWED
from tests.http2_events import Watched
from tests.property.h2_oracle import Oracle
from tests.property.test_http2_differential import (
    GREETING,
    PlanStep,
    asking,
    configure,
    ours,
    play,
    respond,
    send,
    trail,
)

SECONDS = float(os.environ.get("KMSCONN_FUZZ", "0"))
ONE = os.environ.get("KMSCONN_FUZZ_ONE", "")
SAMPLE = 1500
LONGEST = 5.0  # CPU seconds for one input, on a machine that does much else

ANSWER: list[PlanStep] = [
    respond(1, 200, [], end=False),
    send(1, b"\0\0\0\0\x02ok", None, end=False),
    trail(1, []),
]
SCRIPTS: list[list[PlanStep]] = [
    ANSWER,
    [*ANSWER, respond(3, 200, [(b"grpc-status", b"5"), (b"grpc-message", b"no")], end=True)],
    [respond(1, 103, [], end=False), *ANSWER],
    [respond(1, 200, [(b"long", b"x" * 20_000)], end=False), send(1, b"y" * 9000, 200, end=True)],
    [configure(4, 10), configure(3, 1), lambda server: server.ping(b"12345678"), *ANSWER],
    [
        lambda server: server.reset_stream(3, 7),
        lambda server: server.increment_flow_control_window(99),
        *ANSWER,
    ],
    [lambda server: server.increment_flow_control_window(5, 1), respond(5, 503, [(b"a", b"b")], end=False)],
]
CORPUS = [play(script, last) for script in SCRIPTS for last in (None, 3)] + [GREETING]
BYTES = (0, 1, 4, 5, 8, 9, 0x20, 0x7F, 0x80, 0xFF)


def whole_frames(data: bytes) -> list[bytes]:
    return [
        frames.frame(kind, flags, stream, bytes(body))
        for kind, flags, stream, body in Cutter(2**24).cut(data)
    ]


def change_byte(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.choice((*BYTES, rng.randrange(256)))


def cut_out(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 9, 50))]


def put_in(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 9, 30)))


def change_frame(rng: random.Random, data: bytearray) -> None:
    """Give one frame another type, other flags, another stream or size."""
    spots = [at for at in starts(data) if at + 9 <= len(data)]
    if spots:
        at = rng.choice(spots) + rng.choice((1, 2, 3, 3, 4, 4, 8, 8))
        data[at] = rng.choice((*BYTES, rng.randrange(12)))


def shuffle_frames(rng: random.Random, data: bytearray) -> None:
    """Move, drop, repeat frames; some very often."""
    pieces = [bytes(data[start:end]) for start, end in pairwise([*starts(data), len(data)])]
    if len(pieces) > 1:
        piece = pieces.pop(rng.randrange(1, len(pieces)))
        times = rng.choice((0, 1, 1, 2, 3, 2000 if len(piece) < 100 else 2))
        pieces.insert(rng.randrange(1, len(pieces) + 1), piece * times)
        data[:] = b"".join(pieces)


def add_frame(rng: random.Random, data: bytearray) -> None:
    body = rng.choice((b"", b"\x88", rng.randbytes(rng.randrange(12)), rng.randrange(2**32).to_bytes(4)))
    data += frames.frame(
        rng.randrange(11), rng.choice((0, 1, 4, 5, 8, 0x2C, 0xFF)), rng.choice((0, 1, 2, 3, 5, 7)), body
    )


def add_settings(rng: random.Random, data: bytearray) -> None:
    data += settings_frame({rng.randrange(8): rng.choice((0, 1, 2**14, 2**16, 2**31 - 1, 2**31, 2**32 - 1))})


def splice(rng: random.Random, data: bytearray) -> None:
    data += rng.choice(rng.choice(PIECES))


PIECES = [whole_frames(data) for data in CORPUS]
WAYS = (
    change_byte,
    cut_out,
    put_in,
    change_frame,
    change_frame,
    shuffle_frames,
    add_frame,
    add_settings,
    splice,
)


def starts(data: bytearray) -> Iterator[int]:
    """Yield where frames begin, as far as their sizes say."""
    at = 0
    while at < len(data):
        yield at
        at += 9 + int.from_bytes(data[at : at + 3])


def spoiled(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(CORPUS))
    for _ in range(rng.randint(1, 6)):
        if data:
            rng.choice(WAYS)(rng, data)
    return bytes(data)


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 4))))
    return [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


def taken(connection: Watched, chunks: list[bytes]) -> tuple[list[Event], bool]:
    """Return the events, and whether the peer was refused; nothing else may come of any bytes."""
    events: list[Event] = []
    for chunk in chunks:
        try:
            events += connection.receive(chunk)
        except Http2Error:
            assert connection.broken
            return events, True
        finally:
            bounded(connection)
        connection.data_to_send()
    return events, False


def bounded(connection: Watched) -> None:
    """Assert that what is kept for a peer has its bounds."""
    assert len(connection._cutter._rest) < http2.MAX_FRAME + 9
    assert (
        connection._on_streams.unfinished is None
        or len(connection._on_streams.unfinished.data) <= headers.MAX_BLOCK
    )
    assert len(connection._reader._known) <= headers.MAX_KNOWN
    assert connection._reader._decoder.header_table.maxsize <= 4096
    assert connection._outbox.owed <= MAX_OWED + 1


def joined(events: list[Event]) -> list[Event]:
    """Return the events without what only tells where a frame ended."""
    return [
        DataCame(event.stream, bytes(event.data)) if isinstance(event, DataCame) else event
        for event in events
    ]


def examine(number: int) -> bool:
    """Try one input; return whether both took it."""
    rng = random.Random(number)
    data = spoiled(rng)
    chunks, start = pieces(rng, data), time.process_time()
    events, fault = taken(ours(), chunks)
    assert time.process_time() - start < LONGEST
    assert sum(len(event.data) for event in events if isinstance(event, DataCame)) <= len(data)
    oracle = asking(Oracle())
    expected = oracle.receive(data)
    if oracle.refused or oracle.waits or number_of_pings(data) > MAX_OWED:
        return False
    assert not fault
    assert joined(events) == joined(expected)
    return True


def number_of_pings(data: bytes) -> int:
    """Return how many answers a peer is owed at most: h2 does not count them."""
    return sum(
        data[at + 3] in {frames.PING, frames.SETTINGS} for at in starts(bytearray(data)) if at + 3 < len(data)
    )


def numbers() -> Iterator[int]:
    """Yield the inputs to try: the one asked for, those of some seconds from a fresh seed, or the sample."""
    if ONE:
        yield int(ONE)
    elif SECONDS:
        end = time.monotonic() + SECONDS
        for number in count(random.SystemRandom().randrange(2**40)):
            if time.monotonic() > end:
                return
            yield number
    else:
        yield from range(SAMPLE)


def test_spoiled_bytes_are_taken_or_refused_and_mean_what_they_mean_to_h2() -> None:
    tried = agreed = 0
    begun = time.monotonic()
    for number in numbers():
        try:
            agreed += examine(number)
        except BaseException as error:
            error.add_note(f"replay with KMSCONN_FUZZ_ONE={number}")
            raise
        tried += 1
    if SECONDS:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{tried} inputs in {time.monotonic() - begun:.0f} s, {agreed} taken by both, peak {peak} MiB")  # noqa: T201
    assert tried
    assert ONE or tried // 10 < agreed < tried


async def outcome(link: Link) -> None:
    """Make a call that ends as calls end: with a reply, a mapped error, or at its deadline."""
    with trio.move_on_after(100), suppress(KmsconnError):
        await link.unary("/p.S/M", [b"x"])


@pytest.mark.parametrize("first", range(0, 150, 50))
async def test_calls_end_whatever_comes(first: int) -> None:
    """The link closes, or the peer is silent and is left, or the deadline comes; nothing hangs, nothing else is raised."""
    for number in range(first, first + 50):
        rng = random.Random(number)
        client, server = memory_stream_pair()
        link, begun = Link(client, "host:1"), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            async with trio.open_nursery() as calls:
                for _ in range(3):
                    calls.start_soon(outcome, link)
                for chunk in pieces(rng, spoiled(rng)):
                    with suppress(trio.BrokenResourceError):  # the link has left
                        await server.send_all(chunk)
                    await trio.sleep(rng.choice((0, 1)))
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun <= 200
