"""What a round of posts and requests becomes in the table."""

from __future__ import annotations

from bench.http_posts import PostFigures, PostRound
from bench.offering import Usage

ROUND = PostRound("both", 1.0, 2.0, 2.0)


def figures(posts: list[tuple[float, float, str, int]]) -> PostFigures:
    rows = [(1.0, 1.1, 1.2, 1.3, 1.5), (1.0, 1.1, None, None, None)]
    return PostFigures(ROUND, rows, 2, posts, 4, Usage(0.004, 0.25, 1, 1), Usage(1.0, 0.5, 1, 1), 3 << 20)


def test_cpu_is_for_each_answered_request_of_either_source() -> None:
    line = figures([(1.0, 1.25, "ok", 0), (1.0, 2.0, "ok", 1), (1.0, 1.1, "malformed", 0)]).line()
    assert line == (
        "| both | 1 of 2 | 500 · 500 · 500 | 2 of 4 | 250 · 1,000 · 1,000 | 1 | 1.33 | 25% · 50% | 3 | {'malformed': 1} |"
    )


def test_of_nothing_there_are_no_times() -> None:
    assert "| 0 of 4 | – · – · – | 0 | 4.00 |" in figures([]).line()
