"""Who may come in, and who waits."""

from __future__ import annotations

from kmsconn.transport.grpc.flow import Allowance, Claim


class Door:
    """An allowance, and who was let in, in order."""

    def __init__(self, total: int) -> None:
        self.allowance = Allowance(total)
        self.let_in: list[str] = []

    def ask(self, name: str, size: int) -> Claim:
        return self.allowance.ask(size, lambda: self.let_in.append(name))


def test_what_fits_is_let_in_at_once() -> None:
    door = Door(100)
    door.ask("a", 60)
    door.ask("b", 40)
    assert door.let_in == ["a", "b"]
    assert door.allowance.used == 100


def test_what_does_not_fit_waits_until_room_is_given_back() -> None:
    door = Door(100)
    first = door.ask("a", 60)
    door.ask("b", 50)
    assert door.let_in == ["a"]
    door.allowance.give_back(first)
    assert door.let_in == ["a", "b"]
    assert door.allowance.used == 50


def test_nobody_overtakes_who_asked_before() -> None:
    door = Door(100)
    first = door.ask("a", 60)
    door.ask("large", 90)
    door.ask("small", 10)
    assert door.let_in == ["a"]
    door.allowance.give_back(first)
    assert door.let_in == ["a", "large", "small"]


def test_who_leaves_while_waiting_lets_the_next_one_pass() -> None:
    door = Door(100)
    door.ask("a", 60)
    large = door.ask("large", 90)
    door.ask("small", 40)
    door.allowance.give_back(large)
    assert door.let_in == ["a", "small"]


def test_one_alone_may_be_larger_than_all_there_is() -> None:
    door = Door(100)
    huge = door.ask("huge", 500)
    door.ask("b", 1)
    assert door.let_in == ["huge"]
    door.allowance.give_back(huge)
    assert door.let_in == ["huge", "b"]


def test_all_is_free_once_all_is_given_back() -> None:
    door = Door(100)
    claims = [door.ask(str(number), 30 + number) for number in range(20)]
    for claim in claims:
        door.allowance.give_back(claim)
    assert door.allowance.used == 0
    assert not door.allowance._waiting
