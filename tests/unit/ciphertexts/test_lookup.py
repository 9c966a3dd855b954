"""Coprocessors looked up one by one: remembered, left out when they cannot be had, never in a request's way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.port import Call, RpcError
from kmsconn.ciphertexts.registry import Lookup
from kmsconn.errors import Unreachable
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.protocols.httpz_rc7.contracts import HTTPZ
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from tests.vectors import httpz

FIRST, SECOND = Address(b"\x01" * 20), Address(b"\x02" * 20)
GETTER = HTTPZ.function("coprocessors")


@attrs.define
class Node:
    """A gateway whose HTTPZ knows some buckets; ``silent`` answers nothing."""

    buckets: dict[Address, str]
    silent: bool = False
    asked: list[Address] = attrs.field(factory=list)
    chain_id: int = 54321

    async def call(self, method: str, *params: Any) -> Any:
        raise NotImplementedError

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        if self.silent:
            raise Unreachable("nobody there")
        return [self._answer(call) for call in calls]

    def _answer(self, call: Call) -> Any:
        (who,) = GETTER.decode(from_hex(call.params[0]["data"]))
        self.asked.append(who)
        bucket = self.buckets.get(who)
        if bucket == "refused":
            return RpcError(-32000, "header not found", None)
        known = (ZERO_ADDRESS, ZERO_ADDRESS, "") if bucket is None else (who, who, bucket)
        return to_hex(GETTER.encode_result(known))


@attrs.define
class Case:
    """A lookup, its node, and what was told."""

    node: Node
    told: list[Event] = attrs.field(factory=list)
    lookup: Lookup = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lookup = Lookup(HttpzRc7(httpz.settings()), self.node, 60.0, self.told.append)


def case(**buckets: str) -> Case:
    names = {"first": FIRST, "second": SECOND}
    return Case(Node({names[name]: bucket for name, bucket in buckets.items()}))


async def test_buckets_come_in_the_order_of_the_request_each_once() -> None:
    one = case(first="http://a", second="http://b")
    assert await one.lookup.find([SECOND, FIRST, SECOND]) == ["http://b", "http://a"]
    assert await case(first="http://a", second="http://a").lookup.find([FIRST, SECOND]) == ["http://a"]


async def test_what_was_found_is_remembered_for_a_while() -> None:
    one = case(first="http://a")
    for _ in range(3):
        await one.lookup.find([FIRST])
    assert one.node.asked == [FIRST]
    await trio.sleep(61)
    one.node.buckets[FIRST] = "http://moved"
    assert await one.lookup.find([FIRST]) == ["http://moved"]


async def test_a_coprocessor_without_a_bucket_is_told_once_and_asked_again() -> None:
    one = case(first="http://a")
    for _ in range(2):
        assert await one.lookup.find([FIRST, SECOND]) == ["http://a"]
    assert one.node.asked.count(SECOND) == 2
    assert [event.text for event in one.told if isinstance(event, AlertRaised)] == [
        "has no bucket registered"
    ]
    one.node.buckets[SECOND] = "http://b"
    assert await one.lookup.find([SECOND]) == ["http://b"]
    assert [type(event) for event in one.told] == [AlertRaised, AlertCleared]


async def test_one_that_cannot_be_looked_up_is_left_out() -> None:
    one = case(first="refused", second="http://b")
    assert await one.lookup.find([FIRST, SECOND]) == ["http://b"]
    assert [event.text for event in one.told if isinstance(event, AlertRaised)] != []


async def test_none_that_can_be_looked_up_is_a_dependency_that_does_not_answer() -> None:
    with pytest.raises(Unreachable, match="are unknown"):
        await case(first="refused").lookup.find([FIRST])


async def test_nobody_with_a_bucket_is_an_empty_answer() -> None:
    assert await case().lookup.find([FIRST]) == []
    assert await case().lookup.find([]) == []


async def test_what_was_said_before_counts_while_nobody_answers() -> None:
    one = case(first="http://a")
    await one.lookup.find([FIRST])
    one.node.silent = True
    await trio.sleep(61)
    assert await one.lookup.find([FIRST]) == ["http://a"]


async def test_there_is_nothing_to_wait_for_and_nothing_to_run() -> None:
    one = case()
    await one.lookup.wait_loaded()
    with trio.move_on_after(1000) as scope:
        await one.lookup.run()
    assert scope.cancelled_caught
