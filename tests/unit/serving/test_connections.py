"""Which connection goes for another one."""

from __future__ import annotations

from kmsconn.serving.clients import ClientConnection, Connections


def admitted(table: Connections, *addresses: str) -> list[ClientConnection]:
    """Return new connections, one for each address."""
    found = [table.admit(address) for address in addresses]
    assert None not in found
    return [one for one in found if one is not None]


def closed(connections: list[ClientConnection]) -> list[int]:
    """Return the numbers of those that were dropped."""
    return [number for number, one in enumerate(connections) if one.scope.cancel_called]


async def test_the_oldest_of_the_address_with_the_most_connections_goes() -> None:
    table = Connections(5)
    connections = admitted(table, "a", "b", "b", "b", "c", "d")
    assert closed(connections) == [1]
    assert (len(table), table.dropped) == (5, 1)


async def test_who_waits_is_counted_for_no_address_and_does_not_go() -> None:
    table = Connections(4)
    connections = admitted(table, "b", "b", "b", "a")
    with table.waiting(connections[0]), table.waiting(connections[1]), table.waiting(connections[2]):
        connections += admitted(table, "b")
        assert closed(connections) == [3]
    admitted(table, "c")
    assert closed(connections) == [3, 4]
    admitted(table, "c")
    assert closed(connections) == [2, 3, 4], "who has waited may be dropped again"


async def test_where_everybody_waits_a_new_client_finds_no_place() -> None:
    table = Connections(1)
    [connection] = admitted(table, "a")
    with table.waiting(connection):
        assert table.admit("b") is None
    assert not connection.scope.cancel_called
    assert table.dropped == 1


async def test_one_that_has_ended_while_it_waited_is_forgotten() -> None:
    table = Connections(1)
    [connection] = admitted(table, "a")
    with table.waiting(connection):
        table.release(connection)
    assert len(table) == 0
    assert closed([connection, *admitted(table, "b")]) == []
