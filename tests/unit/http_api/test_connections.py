"""Which connection goes for another one, and until when each may do what it does."""

from __future__ import annotations

import math

import trio.testing

from kmsconn.http_api.connections import IDLE_SECONDS, REQUEST_SECONDS, Connection, ConnectionTable


def admitted(table: ConnectionTable, *addresses: str) -> list[Connection]:
    """Return new connections, one for each address."""
    found = [table.admit(address, 0) for address in addresses]
    assert None not in found
    return [one for one in found if one is not None]


def closed(connections: list[Connection]) -> list[int]:
    """Return the numbers of those that were dropped."""
    return [number for number, one in enumerate(connections) if one.scope.cancel_called]


async def test_the_oldest_of_the_address_with_the_most_connections_goes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table = ConnectionTable(5)
    connections = admitted(table, "a", "b", "b", "b", "c", "d")
    assert closed(connections) == [1]
    assert (len(table), table.dropped) == (5, 1)


async def test_who_waits_is_counted_for_no_address_and_does_not_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table = ConnectionTable(4)
    connections = admitted(table, "b", "b", "b", "a")
    with connections[0].waiting(), connections[1].waiting(), connections[2].waiting():
        connections += admitted(table, "b")
        assert closed(connections) == [3]
    admitted(table, "c")
    assert closed(connections) == [3, 4]


async def test_where_everybody_waits_a_new_client_finds_no_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table = ConnectionTable(1)
    [connection] = admitted(table, "a")
    with connection.waiting():
        assert table.admit("b", 0) is None
    assert not connection.scope.cancel_called
    assert table.dropped == 1


async def test_one_that_has_ended_while_it_waited_is_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table = ConnectionTable(1)
    [connection] = admitted(table, "a")
    with connection.waiting():
        table.release(connection)
    assert len(table) == 0
    assert closed([connection, *admitted(table, "b")]) == []


async def test_a_connection_has_time_for_a_request_from_its_first_byte_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    [connection] = admitted(ConnectionTable(1), "a")
    assert connection.scope.deadline == IDLE_SECONDS
    connection.hear(5)
    connection.hear(7)
    assert connection.scope.deadline == connection.read_by == 5 + REQUEST_SECONDS
    connection.serve(8)
    assert (connection.scope.deadline, connection.read_by) == (math.inf, 5 + REQUEST_SECONDS)
    connection.rest(20)
    assert connection.scope.deadline == 20 + IDLE_SECONDS
