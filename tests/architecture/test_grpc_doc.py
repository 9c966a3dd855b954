"""docs/grpc.md says what tests show, no more and no less."""

from __future__ import annotations

from pathlib import Path

from tests.behaviours import PEERS, shown_by, table
from tests.real import test_grpc_connections, test_grpc_peers, test_grpc_tls
from tests.unit.transport.grpc import test_grpc_channel, test_grpc_framing, test_grpc_http2, test_grpc_link

DOC = Path(__file__).parents[2] / "docs" / "grpc.md"
MODULES = (
    test_grpc_peers,
    test_grpc_connections,
    test_grpc_tls,
    test_grpc_channel,
    test_grpc_link,
    test_grpc_http2,
    test_grpc_framing,
)


def test_the_table_of_behaviours_is_what_tests_show() -> None:
    """Where it fails, put the table that it expects into the document."""
    assert table(shown_by(MODULES)) in DOC.read_text(encoding="utf-8")


def test_every_peer_shows_something() -> None:
    assert {peer for shown in shown_by(MODULES) for peer in shown.peers} == set(PEERS)


def test_what_real_peers_show_runs_with_each_of_them() -> None:
    for module in MODULES[:3]:
        for test in vars(module).values():
            peers = {peer for shown in getattr(test, "shown", []) for peer in shown.peers}
            runs = {
                peer
                for mark in getattr(test, "pytestmark", [])
                if mark.args[0] == "library"
                for peer in mark.args[1]
            }
            assert peers == runs
