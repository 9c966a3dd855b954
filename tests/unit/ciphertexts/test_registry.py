"""The registry of coprocessors: a snapshot that a failed refresh does not spoil."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from kmsconn.chain.port import RpcError
from kmsconn.ciphertexts.registry import MOST, NAME, RETRY, Lookup, Registry
from kmsconn.errors import NotYet, StartRefused, Unreachable
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from tests.unit.requests.answers import Answers
from tests.vectors import httpz, vector_settings

PROFILE = Fhevm(vector_settings())
ONE, TWO, STRANGER = (Address(bytes([n]) * 20) for n in (1, 2, 9))
REFRESH = 60.0


def gateway_of(buckets: dict[Address, str], threshold: int = 1) -> Answers:
    """Return a GatewayConfig that holds what a test says."""
    return Answers(
        {
            "getCoprocessorMajorityThreshold": threshold,
            "getCoprocessorTxSenders": lambda: tuple(buckets),
            "getCoprocessor": lambda sender: (sender, sender, buckets[sender]),
        }
    )


def silent(one: Answers) -> dict[str, Any]:
    """Let nobody answer, and return what was answered before."""
    said, one.views = one.views, dict.fromkeys(one.views, Unreachable("down"))
    return said


def registry(gateway: Answers, events: list[Event] | None = None) -> Registry:
    return Registry(PROFILE, gateway, REFRESH, (events if events is not None else []).append)


@asynccontextmanager
async def loaded(one: Registry) -> AsyncIterator[None]:
    """Let a registry run once it has its first snapshot."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await one.wait_loaded()
        yield
        nursery.cancel_scope.cancel()


async def test_buckets_are_in_the_order_asked_for_and_what_is_unknown_or_empty_is_left_out() -> None:
    one = registry(gateway_of({ONE: "https://one", TWO: "https://two"}))
    assert await one.find([ONE]) == [], "before the first snapshot"
    await one.load()
    assert await one.find([TWO, STRANGER, ONE]) == ["https://two", "https://one"]
    one = registry(gateway_of({ONE: "https://one", TWO: ""}))
    await one.load()
    assert await one.find([TWO, ONE]) == ["https://one"]


async def test_a_zero_threshold_refuses_the_start() -> None:
    with pytest.raises(StartRefused, match="threshold"):
        await registry(gateway_of({ONE: "https://one"}, threshold=0)).load()


@pytest.mark.parametrize("buckets", [{}, {ONE: ""}])
async def test_a_registry_without_any_bucket_is_waited_for(buckets: dict[Address, str]) -> None:
    with pytest.raises(NotYet):
        await registry(gateway_of(buckets)).load()


async def test_a_refresh_takes_what_is_new() -> None:
    gateway = gateway_of({ONE: "https://one"})
    one = registry(gateway)
    async with loaded(one):
        gateway.views = gateway_of({TWO: "https://two"}).views
        await trio.sleep(REFRESH + 1)
        assert (await one.find([ONE, TWO])) == ["https://two"]


async def test_a_refresh_that_fails_keeps_the_snapshot_and_is_told_once_it_works_again() -> None:
    gateway, events = gateway_of({ONE: "https://one"}), list[Event]()
    one = registry(gateway, events)
    async with loaded(one):
        said = silent(gateway)
        await trio.sleep(REFRESH + 1)
        assert (await one.find([ONE])) == ["https://one"]
        gateway.views = said
        await trio.sleep(RETRY + 1)
    assert [event.dependency for event in events if isinstance(event, AlertRaised)][:1] == [NAME]
    assert events[-1] == AlertCleared(NAME, "unreadable")


async def test_without_a_snapshot_it_is_tried_again_soon() -> None:
    gateway = gateway_of({ONE: "https://one"})
    one, said = registry(gateway), silent(gateway)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await trio.sleep(10 * RETRY)
        assert len(gateway.asked) >= 9
        gateway.views = said
        with trio.fail_after(RETRY + 1):
            await one.wait_loaded()
        nursery.cancel_scope.cancel()


async def test_a_threshold_of_zero_while_running_is_named_and_changes_nothing() -> None:
    """One wild answer must not end a connector that has a good snapshot."""
    gateway, events = gateway_of({ONE: "https://one"}), list[Event]()
    one = registry(gateway, events)
    async with loaded(one):
        gateway.views["getCoprocessorMajorityThreshold"] = 0
        await trio.sleep(REFRESH)
        await trio.testing.wait_all_tasks_blocked()
        assert one.threshold == 1
        [alert] = [event for event in events if isinstance(event, AlertRaised)]
        assert "threshold on chain is 0" in alert.text


async def test_a_registry_of_too_many_coprocessors_is_not_asked_for_each() -> None:
    gateway = gateway_of({Address(number.to_bytes(20)): "https://one" for number in range(1, MOST + 2)})
    with pytest.raises(Unreachable, match="names 1001 coprocessors"):
        await registry(gateway).load()
    assert len(gateway.asked) == 2


FIRST, SECOND = Address(b"\x01" * 20), Address(b"\x02" * 20)


class Case:
    """A lookup in an HTTPZ that knows some buckets, who was looked up, and what was told."""

    def __init__(self, **buckets: str) -> None:
        names = {"first": FIRST, "second": SECOND}
        self.buckets = {names[name]: bucket for name, bucket in buckets.items()}
        self.asked: list[Address] = []
        self.told: list[Event] = []
        self.chain = Answers({"coprocessors": self._coprocessor})
        self.lookup = Lookup(HttpzRc7(httpz.settings()), self.chain, 60.0, self.told.append)

    def _coprocessor(self, who: Address) -> Any:
        self.asked.append(who)
        bucket = self.buckets.get(who)
        if bucket == "refused":
            return RpcError(-32000, "header not found", None)
        return (ZERO_ADDRESS, ZERO_ADDRESS, "") if bucket is None else (who, who, bucket)


async def test_buckets_come_in_the_order_of_the_request_each_once() -> None:
    one = Case(first="http://a", second="http://b")
    assert await one.lookup.find([SECOND, FIRST, SECOND]) == ["http://b", "http://a"]
    assert await Case(first="http://a", second="http://a").lookup.find([FIRST, SECOND]) == ["http://a"]


async def test_what_was_found_is_remembered_for_a_while() -> None:
    one = Case(first="http://a")
    for _ in range(3):
        await one.lookup.find([FIRST])
    assert one.asked == [FIRST]
    await trio.sleep(61)
    one.buckets[FIRST] = "http://moved"
    assert await one.lookup.find([FIRST]) == ["http://moved"]


async def test_a_coprocessor_without_a_bucket_is_told_once_and_asked_again() -> None:
    one = Case(first="http://a")
    for _ in range(2):
        assert await one.lookup.find([FIRST, SECOND]) == ["http://a"]
    assert one.asked.count(SECOND) == 2
    assert [getattr(event, "text", "") for event in one.told] == ["has no bucket registered"]
    one.buckets[SECOND] = "http://b"
    assert await one.lookup.find([SECOND]) == ["http://b"]
    assert [type(event) for event in one.told] == [AlertRaised, AlertCleared]


async def test_one_that_cannot_be_looked_up_is_left_out() -> None:
    one = Case(first="refused", second="http://b")
    assert await one.lookup.find([FIRST, SECOND]) == ["http://b"]
    assert [event.text for event in one.told if isinstance(event, AlertRaised)] != []


async def test_nobody_with_a_bucket_is_an_empty_answer_and_nobody_to_look_up_is_unreachable() -> None:
    assert await Case().lookup.find([FIRST]) == []
    assert await Case().lookup.find([]) == []
    with pytest.raises(Unreachable, match="are unknown"):
        await Case(first="refused").lookup.find([FIRST])


async def test_what_was_said_before_counts_while_nobody_answers() -> None:
    one = Case(first="http://a")
    await one.lookup.find([FIRST])
    silent(one.chain)
    await trio.sleep(61)
    assert await one.lookup.find([FIRST]) == ["http://a"]


async def test_an_alert_ends_though_no_request_names_the_coprocessor_again() -> None:
    one = Case(first="refused", second="http://b")
    await one.lookup.wait_loaded()
    await one.lookup.find([FIRST, SECOND, ZERO_ADDRESS])
    one.buckets = {FIRST: "http://a", ZERO_ADDRESS: "http://c"}
    with trio.move_on_after(1000):
        await one.lookup.run()
    assert [type(event) for event in one.told] == [AlertRaised] * 2 + [AlertCleared] * 2
    assert len(one.asked) == 5
