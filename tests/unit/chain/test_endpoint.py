from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.chain.follower import HeadTracker
from kmsconn.chain.keeper import ATTEMPT_SECONDS, LONGEST_PAUSE, MOMENT, RENEW_SECONDS, TOLD_AFTER
from kmsconn.chain.port import Call, RpcError
from kmsconn.chain.remedies import node_remedy
from kmsconn.config.parties import Chain
from kmsconn.errors import Overloaded, StartRefused, Unreachable
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.requests.reader import follow_heads
from kmsconn.testing.endings import Steps, run_marked
from kmsconn.transport.http import open_http
from tests.unit.chain.scripted_node import CHAIN_ID, Node, Refusal, serving

WS, HTTP = "ws://a:8546/key", "http://a/key"


@asynccontextmanager
async def endpoint_of(
    *urls: str, events: list[Event] | None = None, **nodes: Node
) -> AsyncIterator[Endpoint]:
    chain = Chain(CHAIN_ID, urls, "gateway_url")
    on_event = (lambda _: None) if events is None else events.append
    async with (
        serving(**nodes) as ports,
        open_http(ports) as http,
        open_endpoint(chain, "gateway", ports, http, on_event) as endpoint,
    ):
        yield endpoint


def limited() -> None:
    raise Refusal(-32005, "limit exceeded")


@pytest.mark.parametrize(("url", "origin"), [(WS, "ws://a:8546"), (HTTP, "http://a")])
async def test_a_call_is_answered_over_the_url_in_use_which_is_named_without_its_key(
    url: str, origin: str
) -> None:
    node = Node()
    node.methods["limited"] = limited
    async with endpoint_of(url, a=node) as endpoint:
        assert endpoint.in_use == ""
        assert await endpoint.call("echo", [1, {"a": None}]) == [1, {"a": None}]
        assert endpoint.in_use == origin
        with pytest.raises(RpcError, match="method not found"):
            await endpoint.call("nothing")
        with pytest.raises(Overloaded):
            await endpoint.call("limited")
        assert await endpoint.call("echo", 1) == 1
    assert node.dialled == 1, "a rate limit keeps the connection"


@pytest.mark.parametrize("url", [WS, HTTP])
async def test_a_batch_goes_in_one_frame_to_one_node(url: str) -> None:
    node = Node()
    node.reorder = lambda answers: answers[::-1]
    async with endpoint_of(url, a=node) as endpoint:
        answers = await endpoint.batch([Call("echo", (1,)), Call("nothing"), Call("echo", (None,))])
    assert (answers[0], type(answers[1]), answers[2]) == (1, RpcError, None)
    assert [len(frame) for frame in node.frames if isinstance(frame, list)] == [3]


async def test_nobody_is_dialled_before_it_is_wanted() -> None:
    node = Node()
    async with endpoint_of(WS, HTTP, a=node) as endpoint:
        assert await endpoint.batch([]) == []
        assert await each_of(endpoint) == {}
        await trio.sleep(100)
    async with endpoint_of(HTTP, a=node) as endpoint:
        with trio.move_on_after(1000):
            await endpoint.listen(("newHeads",), fail)
    assert node.dialled == 0


def fail(pushed: bytes | None) -> None:
    raise AssertionError(pushed)


async def each_of(endpoint: Endpoint, *calls: Call) -> dict[int, Any]:
    came: dict[int, Any] = {}
    await endpoint.each(calls, came.__setitem__)
    return came


@pytest.mark.parametrize("url", [WS, HTTP])
async def test_of_several_calls_each_has_its_own_result_or_error(url: str) -> None:
    node = Node()
    node.methods["limited"] = limited
    async with endpoint_of(url, a=node) as endpoint:
        calls = Call("echo", (1,)), Call("nothing"), Call("limited"), Call("echo", (None,))
        came = await each_of(endpoint, *calls)
    assert (came[0], type(came[1]), type(came[2]), came[3]) == (1, RpcError, Overloaded, None)
    sent = sorted(frame["method"] for frame in node.frames)
    assert sent == ["echo", "echo", "eth_chainId", "limited", "nothing"]


async def test_several_calls_leave_in_their_order() -> None:
    node = Node()
    async with endpoint_of(WS, a=node) as endpoint:
        await each_of(endpoint, *(Call("echo", (number,)) for number in range(50)))
    assert [frame["params"] for frame in node.heard[1:]] == [[number] for number in range(50)]


@pytest.mark.parametrize("url", [WS, HTTP])
async def test_one_call_that_hangs_keeps_none_of_the_others_from_being_answered(url: str) -> None:
    """A sequencer answers each only when it is in a block."""
    node, came = Node(), dict[int, Any]()
    node.hang.add("hang")
    async with endpoint_of(url, a=node) as endpoint:
        with trio.move_on_after(1):
            await endpoint.each([Call("hang"), Call("echo", (1,)), Call("hang")], came.__setitem__)
        assert came == {1: 1}
        assert await endpoint.call("echo", 2) == 2


async def test_a_lost_connection_fails_of_several_calls_what_was_not_answered() -> None:
    """Whether the node acted is the caller's question: no call is repeated here."""
    node, came = Node(), dict[int, Any]()
    node.hang.add("hang")
    async with endpoint_of(WS, a=node) as endpoint, trio.open_nursery() as nursery:
        await endpoint.call("echo", 1)
        nursery.start_soon(endpoint.each, [Call("hang"), Call("echo", (1,))], came.__setitem__)
        await wait_all_tasks_blocked()
        assert came == {1: 1}, "each as it comes"
        node.hang_up()
    assert (type(came[0]), came[1]) == (Unreachable, 1)
    assert [method for method, _ in node.asked].count("hang") == 1


async def test_the_websocket_is_preferred_whatever_the_order_and_http_the_fallback() -> None:
    a, b, without = Node(), Node(), Node()
    async with endpoint_of(HTTP, "ws://b:8546", a=a, b=b) as endpoint:
        await endpoint.call("echo", 1)
    assert (a.dialled, b.dialled) == (0, 1)
    assert [method for method, _ in b.asked] == ["eth_chainId", "echo"], "its chain is compared first"
    without.websocket = False
    async with endpoint_of(WS, HTTP, a=without) as endpoint:
        assert await endpoint.call("echo", 1) == 1


async def test_calls_go_on_over_http_until_the_websocket_is_back() -> None:
    a, b = Node(), Node()
    a.up = False
    events: list[Event] = []
    async with endpoint_of(WS, "http://b/", events=events, a=a, b=b) as endpoint:
        for number in range(200):
            assert await endpoint.call("echo", number) == number
            await trio.sleep(1)
        a.up = True
        await trio.sleep(RENEW_SECONDS + 1)
        await endpoint.call("echo", "over websocket")
    assert events == []
    assert a.dialled > 3
    assert ("echo", ["over websocket"]) in a.asked


async def test_the_next_url_takes_over_when_a_connection_is_lost() -> None:
    a, b = Node(), Node()
    async with endpoint_of(WS, "ws://b:8546", a=a, b=b) as endpoint:
        await endpoint.call("echo", 1)
        a.up = False
        a.hang_up()
        await wait_all_tasks_blocked()
        assert await endpoint.call("echo", 2) == 2
    assert ("echo", [2]) in b.asked


async def test_connections_are_counted_and_renewals_are_not() -> None:
    a = Node()
    async with endpoint_of(WS, a=a) as endpoint:
        await endpoint.call("echo", 1)
        assert endpoint.links == 1
        a.hang_up()
        await trio.sleep(LONGEST_PAUSE)
        await endpoint.call("echo", 2)
        assert endpoint.links == 2
    async with endpoint_of(HTTP, a=Node()) as endpoint:
        for number in range(4):
            await endpoint.call("echo", number)
            await trio.sleep(RENEW_SECONDS)
        assert endpoint.links == 1


@pytest.mark.parametrize("url", [WS, HTTP])
async def test_a_hung_call_is_given_up_and_the_next_one_goes_to_the_next_node(url: str) -> None:
    a, b = Node(), Node()
    a.hang.add("echo")
    async with endpoint_of(url, url.replace("//a", "//b"), a=a, b=b) as endpoint:
        await endpoint.probe()
        began = trio.current_time()
        with pytest.raises(Unreachable, match="no answer to echo in 10 s") as caught:
            await endpoint.call("echo", 1)
        assert caught.value.dependency == "gateway"
        assert trio.current_time() - began == pytest.approx(ATTEMPT_SECONDS)
        assert await endpoint.call("echo", 2) == 2
    assert ("echo", [2]) in b.asked


async def test_nobody_there_is_unreachable_at_once_and_says_why_without_secrets() -> None:
    node = Node()
    node.up = False
    async with endpoint_of("ws://u:pw@a:8546/key?t=1", a=node) as endpoint:
        with pytest.raises(Unreachable) as caught:
            await endpoint.call("echo", 1)
        began = trio.current_time()
        with pytest.raises(Unreachable):
            await endpoint.call("echo", 1)
        assert (trio.current_time(), node.dialled) == (began, 1), "it is not dialled again during the pause"
        came = await each_of(endpoint, Call("echo", (1,)), Call("echo", (2,)))
        assert all(isinstance(came[index], Unreachable) for index in (0, 1))
        with pytest.raises(Unreachable):
            await endpoint.probe()
    assert str(caught.value) == "gateway: ws://a:8546: ConnectionRefusedError refused"


async def test_a_chain_that_hangs_holds_nobody_while_it_is_tried_again() -> None:
    """Else its requests would hold the places of a pool that the requests of other chains need."""
    node = Node()
    node.hang.add("eth_chainId")
    waits = []
    async with endpoint_of(WS, a=node) as endpoint:
        for _ in range(20):
            asked = trio.current_time()
            with pytest.raises(Unreachable):
                await endpoint.call("echo", 1)
            waits.append(trio.current_time() - asked)
            await trio.sleep(1)
        node.hang.clear()
        await trio.sleep(2 * ATTEMPT_SECONDS)
        assert await endpoint.call("echo", 1) == 1
    assert waits[0] == pytest.approx(ATTEMPT_SECONDS)
    assert max(waits[1:]) <= MOMENT


async def test_pauses_grow_but_recovery_never_waits_longer_than_the_longest() -> None:
    node = Node()
    node.up = False
    async with endpoint_of(WS, a=node) as endpoint:
        with trio.move_on_after(120):
            while True:
                with pytest.raises(Unreachable):
                    await endpoint.call("echo", 1)
                await trio.sleep(0.1)
        assert 120 / LONGEST_PAUSE <= node.dialled <= 120 / LONGEST_PAUSE + 10
        node.up = True
        await trio.sleep(LONGEST_PAUSE)
        assert await endpoint.call("echo", 1) == 1


async def test_a_node_that_hangs_up_again_and_again_is_not_dialled_in_a_loop() -> None:
    node = Node()

    async def hang_up() -> None:
        node.hang_up()

    async with endpoint_of(WS, a=node) as endpoint, trio.open_nursery() as nursery:
        node.on_frame = hang_up
        nursery.start_soon(endpoint.listen, ("newHeads",), lambda _: None)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert node.dialled < 30


async def test_trouble_is_told_once_and_recovery_once() -> None:
    node, events = Node(), list[Event]()
    node.up = False
    async with endpoint_of(WS, events=events, a=node) as endpoint:
        for _ in range(20):
            with pytest.raises(Unreachable):
                await endpoint.call("echo", 1)
            await trio.sleep(1)
        node.up = True
        await trio.sleep(LONGEST_PAUSE)
        await endpoint.call("echo", 1)
        await endpoint.call("echo", 1)
    about, text = ("gateway", "unreachable"), "ws://a:8546: ConnectionRefusedError refused"
    remedy = f"{node_remedy(text, WS, 'gateway_url')}; requests wait and none is lost"
    assert events == [AlertRaised(*about, text, Severity.CRITICAL, remedy), AlertCleared(*about)]


async def test_a_node_that_hangs_is_told_with_its_remedy_while_it_is_dialled() -> None:
    node, events = Node(), list[Event]()
    async with endpoint_of(WS, events=events, a=node) as endpoint:
        await endpoint.call("echo", 1)
        await trio.sleep(60)
        node.hang.add("eth_chainId")
        node.hang_up()
        await wait_all_tasks_blocked()
        with trio.move_on_after(TOLD_AFTER + 1):
            await endpoint.call("echo", 1)
    [alert] = events
    assert isinstance(alert, AlertRaised)
    remedy = f"{node_remedy(alert.text, WS, 'gateway_url')}; requests wait and none is lost"
    assert (alert.cause, alert.remedy) == ("unreachable", remedy)


async def test_a_lost_connection_that_comes_back_at_once_is_no_trouble() -> None:
    node, events = Node(), list[Event]()
    async with endpoint_of(WS, events=events, a=node) as endpoint:
        await endpoint.call("echo", 1)
        await trio.sleep(60)
        node.hang_up()
        await wait_all_tasks_blocked()
        await endpoint.call("echo", 1)
    assert events == []


@pytest.mark.parametrize("url", [WS, HTTP])
async def test_a_wrong_chain_refuses_the_start_and_names_both_ids(url: str) -> None:
    for urls in ((url,), (WS, "ws://b:8546")):
        async with endpoint_of(*urls, a=Node(chain_id=1), b=Node()) as endpoint:
            with pytest.raises(StartRefused, match=r"gateway .*//a.* is on chain 1, configured is 54321"):
                await endpoint.probe()


async def test_one_wrong_chain_id_ends_no_start() -> None:
    """Behind one URL stand several nodes."""
    node, numbers = Node(), iter([1])
    node.methods["eth_chainId"] = lambda: hex(next(numbers, CHAIN_ID))
    async with endpoint_of(WS, a=node) as endpoint:
        await endpoint.probe()
    assert [method for method, _ in node.asked] == ["eth_chainId"] * 2


async def test_a_wrong_chain_is_never_asked() -> None:
    a, b, events = Node(chain_id=1), Node(), list[Event]()
    async with endpoint_of(WS, "ws://b:8546", events=events, a=a, b=b) as endpoint:
        for _ in range(5):
            await endpoint.call("echo", 1)
            await trio.sleep(10)
            b.hang_up()
            await wait_all_tasks_blocked()
    assert {method for method, _ in a.asked} == {"eth_chainId"}
    text = "ws://a:8546 is on chain 1, configured is 54321"
    remedy = f"name a node of chain {CHAIN_ID} in gateway_url, or correct the chain id"
    assert events == [AlertRaised("gateway ws://a:8546", "wrong-chain", text, Severity.CRITICAL, remedy)]


async def test_a_url_that_comes_right_is_used() -> None:
    node, events = Node(chain_id=1), list[Event]()
    async with endpoint_of(WS, events=events, a=node) as endpoint:
        with pytest.raises(Unreachable):
            await endpoint.call("echo", 1)
        node.chain_id = CHAIN_ID
        await trio.sleep(LONGEST_PAUSE)
        assert await endpoint.call("echo", 1) == 1
        await endpoint.probe()
    over = ("gateway ws://a:8546", "wrong-chain"), ("gateway", "unreachable")
    assert events[-2:] == [AlertCleared(*one) for one in over]


@pytest.mark.parametrize("answer", [17, None, "54321", "0xzz"])
async def test_a_chain_id_that_is_none_is_no_chain_id(answer: Any) -> None:
    node = Node()
    node.methods["eth_chainId"] = lambda: answer
    async with endpoint_of(WS, a=node) as endpoint:
        with pytest.raises(Unreachable, match="no quantity"):
            await endpoint.probe()


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (429, "slow down", Overloaded),
        (503, "", Overloaded),
        (502, "<html>", Unreachable),
        (401, "who are you", Unreachable),
        (200, "<html>", Unreachable),
        (200, "[]", Unreachable),
        (500, '{"id":2,"error":{"code":1,"message":"x"}}', RpcError),
        (400, '{"id":2,"error":{"code":1,"message":"x"}}', RpcError),
        (200, '{"id":null,"error":{"code":1,"message":"x"}}', RpcError),
    ],
)
async def test_http_answers_are_mapped(status: int, raw: str, kind: type[Exception]) -> None:
    node = Node()
    async with endpoint_of(HTTP, a=node) as endpoint:
        await endpoint.probe()
        node.status, node.raw = status, raw
        with pytest.raises(kind):
            await endpoint.call("echo", 1)


async def test_an_http_batch_with_a_missing_answer_is_unreachable() -> None:
    node = Node()
    async with endpoint_of(HTTP, a=node) as endpoint:
        await endpoint.probe()
        node.reorder = lambda answers: answers[:1]
        with pytest.raises(Unreachable, match="lacks results for some calls"):
            await endpoint.batch([Call("echo", (1,)), Call("echo", (2,))])


async def test_listening_subscribes_again_after_a_lost_connection_and_notifies() -> None:
    node, notified = Node(), list[Any]()
    async with endpoint_of(WS, a=node) as endpoint, trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.listen, ("newHeads",), notified.append)
        for _ in range(3):
            await trio.sleep(60)
            node.hang_up()
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert notified == [None] * 4


async def test_pushes_that_cannot_be_read_are_told_no_longer_than_their_connection_lasts() -> None:
    node, events = Node(), list[Event]()
    of: Any = SimpleNamespace(head=HeadTracker(), wake_up=SimpleNamespace(head_came=int))
    async with endpoint_of(WS, HTTP, events=events, a=node) as of.endpoint, trio.open_nursery() as nursery:
        nursery.start_soon(follow_heads, of)
        await trio.sleep(1)
        await node.push("0x1", {})
        node.websocket = False
        await trio.sleep(1)
        node.hang_up()
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert [type(event) for event in events] == [AlertRaised, AlertCleared]


async def test_a_refused_subscription_is_tried_again_now_and_then() -> None:
    node = Node()
    del node.methods["eth_subscribe"]
    async with endpoint_of(WS, a=node) as endpoint, trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.listen, ("newHeads",), fail)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert [method for method, _ in node.asked].count("eth_subscribe") == 4


async def test_a_listener_that_is_cancelled_is_rung_no_more() -> None:
    node, notified = Node(), list[Any]()
    async with endpoint_of(WS, a=node) as endpoint:
        with trio.move_on_after(1):
            await endpoint.listen(("newHeads",), notified.append)
        await node.push("0x1", {})
        await wait_all_tasks_blocked()
    assert notified == [None]


Ask = Callable[[Endpoint], Awaitable[Any]]


async def _call(endpoint: Endpoint) -> Any:
    return await endpoint.call("echo", 1)


async def _each(endpoint: Endpoint) -> Any:
    return await each_of(endpoint, Call("echo", (1,)), Call("echo", (2,)))


async def _batch(endpoint: Endpoint) -> Any:
    return await endpoint.batch([Call("echo", (1,)), Call("echo", (2,))])


@pytest.mark.parametrize("url", [WS, HTTP])
@pytest.mark.parametrize("ask", [_call, _batch, _each])
@pytest.mark.parametrize("connected", [False, True])
async def test_cancelling_at_any_await_leaves_the_connection_usable(
    url: str, ask: Ask, connected: bool
) -> None:
    """At each step of what asks in turn; the next call goes through, over the same websocket."""
    for k in range(1, 100):
        node = Node()
        async with endpoint_of(url, a=node) as endpoint:
            if connected:
                await endpoint.probe()
            with trio.CancelScope() as scope:
                steps = Steps(k, scope.cancel)
                await run_marked(partial(ask, endpoint), steps)
            with trio.fail_after(5):
                assert await endpoint.call("echo", 3) == 3
            assert url == HTTP or node.dialled == 1
        if steps.fired is None:
            assert k > 1
            return
    pytest.fail("the call never ended")
