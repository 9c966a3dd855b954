"""Every answer that the connector reads, replaced by each of a list of hostile ones in a running world: the process lives and names it."""

from __future__ import annotations

import pytest

from kmsconn.testing.hostile import Lie, play

EXITS = [
    ("gateway eth_chainId", Lie("result", "0x and 5,000 digits")),
    ("gateway eth_getBlockByNumber latest", Lie("result", "a block at 2^63-1")),
    ("gateway eth_getLogs", Lie("error", "a message nested 987 deep")),
]


@pytest.mark.parametrize("websocket", [True, False], ids=["websocket", "http"])
@pytest.mark.parametrize(("subject", "lie"), EXITS, ids=str)
def test_what_once_ended_the_process(subject: str, lie: Lie, websocket: bool) -> None:
    """The third over HTTP on Python 3.11, where an error could just be read and not be written again."""
    outcome = play(subject, lie, websocket=websocket)
    assert outcome.struck
    assert outcome.complaints() == []
