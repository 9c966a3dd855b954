"""A load of requests at a steady rate, and the wait until the chain shows the end of it; and relayers that post decryptions over HTTP.

A post is repeated while its answer says that it may be, as a relayer does. Listens nowhere and prints nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice, repeat
from typing import Any, Final, Never

import attrs
import trio

from kmsconn.emulator.contracts.request_calls import UNIFIED_CALL
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.fhevm_dependencies import Traffic
from kmsconn.emulator.ground_truth import CommitteeGroundTruth, GroundTruth, Trace, percentile
from kmsconn.emulator.users import Prepared, Users
from kmsconn.errors import Unreachable
from kmsconn.ethereum.hexes import to_hex
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.http_decryption import ATTESTATION_TYPE
from kmsconn.serving.decryptions import PUBLIC_PATH, USER_PATH, VERSION_PATH
from kmsconn.transport.http import HttpClient

LAST_REPLY_TIMEOUT = 30.0
"""Seconds after the last request in which everything open may still be answered."""
AFTERMATH = 1.0
"""Seconds after the last answer in which a double would still come, and in which the connector sees its last replies land."""
STRAGGLERS_TIMEOUT = 5.0
"""Seconds after enough nodes have answered in which the others may still do so, before they count as missing."""
KEPT = 10.0
"""Seconds that the ciphertexts of an answered request are still kept."""
_TIDYING = 1.0


Followed = GroundTruth | CommitteeGroundTruth
"""What tells whether requests are answered: by one node, or by all of a committee."""


@attrs.frozen
class Load:
    """How many requests per second, for how many seconds, of which forms in turn (none named: all, drawn by chance).

    ``posts``: how many more per second relayers post over HTTP to each connector.
    ``prepared``: everything for them is made beforehand, so that nothing but sending is left to do while they are offered.
    """

    rate: float
    seconds: float
    forms: tuple[str, ...] = ()
    prepared: bool = False
    posts: float = 0.0

    @property
    def count(self) -> int:
        """How many requests it is."""
        return round(self.rate * self.seconds)


async def run_load(
    load: Load,
    traffic: Users[EmulatedDependencies],
    ground_truth: Followed,
    *,
    reply_timeout: float = LAST_REPLY_TIMEOUT,
) -> dict[bytes, str]:
    """Queue the requests, wait until all are answered or reply_timeout is over, and a little more for doubles; return as ``put_on``.

    Cancellation: at any time; ``ground_truth`` then tells how far it came.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(ground_truth.watch)
        nursery.start_soon(tidy, traffic, ground_truth)
        queued = await put_on(load, traffic, ground_truth, reply_timeout=reply_timeout)
        await trio.sleep(AFTERMATH)
        nursery.cancel_scope.cancel()
    return queued


async def put_on(
    load: Load,
    traffic: Users[EmulatedDependencies],
    ground_truth: Followed,
    *,
    reply_timeout: float = LAST_REPLY_TIMEOUT,
) -> dict[bytes, str]:
    """Queue the requests of a load, under a ground truth that watches, and wait until all are answered or reply_timeout is over.

    Returns the forms of the requests by their transactions.
    """
    queued = await _queue_all(load, traffic)
    waiting = list(queued)  # one that the contract refused is never on the chain
    with trio.move_on_after(reply_timeout):
        while waiting := [sent for sent in waiting if not _is_over(ground_truth.trace_of(sent))]:
            await traffic.dependencies.gateway.wait_change()
    return queued


async def _queue_all(load: Load, traffic: Users[EmulatedDependencies]) -> dict[bytes, str]:
    queued: dict[bytes, str] = {}
    coming = (traffic.prepare(form) for form in islice(_forms(load, traffic), load.count))
    requests = iter(await _all(coming)) if load.prepared else coming
    start = trio.current_time()
    for number in range(load.count):
        await trio.sleep_until(start + number / load.rate)
        request = next(requests)
        queued[traffic.send(request)] = request.form
    return queued


def _forms(load: Load, traffic: Users[EmulatedDependencies]) -> Iterator[str]:
    """Yield the forms of requests without end: those that are named in turn, else any by chance."""
    if load.forms:
        return cycle(load.forms)
    names = tuple(traffic.forms)
    return (traffic.random.choice(names) for _ in repeat(None))


async def _all(coming: Iterator[Prepared]) -> list[Prepared]:
    """Make them all; the dependencies go on serving meanwhile."""
    made = []
    for request in coming:
        made.append(request)
        await trio.lowlevel.checkpoint()
    return made


def _is_over(trace: Trace | None) -> bool:
    """Tell whether a request is answered, or whoever has not answered it is given up."""
    if trace is None or trace.answer is not None:
        return trace is not None
    return trace.agreed is not None and trace.agreed + STRAGGLERS_TIMEOUT <= trio.current_time()


async def tidy(
    traffic: Users[EmulatedDependencies],
    ground_truth: Followed,
    *,
    clock: Callable[[], float] = trio.current_time,
) -> Never:
    """Drop the ciphertexts of requests that were answered some time ago, until cancelled: a long load must not grow by them."""
    while True:
        await trio.sleep(_TIDYING)
        for transaction_hash in traffic.remembered:
            trace = ground_truth.trace_of(transaction_hash)
            if trace is not None and trace.answer is not None and trace.answer.at + KEPT <= clock():
                traffic.forget(transaction_hash)


POSTED_FORMS: Final = ("public", "unified", "unified_delegated", "wallet")
"""The forms of requests from the chain that there are over HTTP too."""
AGAIN_SECONDS: Final = 1.0
"""Until a post is repeated that may be."""
LAST_ANSWER_SECONDS: Final = 30.0
"""After the last post, in which everything open may still be answered."""


@attrs.frozen
class HttpPost:
    """What a relayer posts: a path and a body."""

    form: str
    path: str
    body: bytes

    @classmethod
    def of(cls, prepared: Prepared) -> HttpPost:
        """Return what is posted in place of a transaction. Raises ValueError for a form that is not posted."""
        if prepared.form not in POSTED_FORMS:
            raise ValueError(f"{prepared.form} is not asked for over HTTP")
        if prepared.form == "public":
            handles, extra_data = DECRYPTION.function("publicDecryptionRequest").decode(prepared.calldata)
            document = {"ctHandles": [to_hex(one) for one in handles], "extraData": to_hex(extra_data)}
            return cls(prepared.form, PUBLIC_PATH, _json(document))
        return cls(prepared.form, USER_PATH, _json(_user_document(prepared.calldata)))


_UNIFIED: Final = DECRYPTION.function(UNIFIED_CALL)


def _user_document(calldata: bytes) -> Mapping[str, Any]:
    entries, user, public_key, contracts, (start, duration), *signed = _UNIFIED.decode(calldata)
    signature, extra_data = signed
    names = ("handle", "contractAddress", "ownerAddress")
    payload = {
        "handles": [dict(zip(names, map(to_hex, entry), strict=True)) for entry in entries],
        "userAddress": to_hex(user),
        "publicKey": to_hex(public_key),
        "allowedContracts": [to_hex(one) for one in contracts],
        "requestValidity": {"startTimestamp": start, "durationSeconds": duration},
        "extraData": to_hex(extra_data),
    }
    return {"attestationType": ATTESTATION_TYPE, "payload": payload, "signature": to_hex(signature)}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


@attrs.frozen
class PostVerdict:
    """What became of posts: how many, with which codes they ended (``ok``: an answer), how long the answered ones took, in seconds."""

    posted: int
    codes: Mapping[str, int]
    p50: float | None
    p99: float | None
    repeated: int = 0

    @property
    def answered(self) -> int:
        """How many were answered."""
        return self.codes.get("ok", 0)

    @property
    def well(self) -> bool:
        """All were answered."""
        return self.answered == self.posted


@attrs.define
class Relayers:
    """Relayers of the users of some dependencies: each decryption is posted to every connector."""

    traffic: Traffic
    urls: Sequence[str] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    _posted: int = 0
    _repeated: int = 0
    _codes: Counter[str] = attrs.field(factory=Counter)
    _seconds: list[float] = attrs.field(factory=list)

    def verdict(self) -> PostVerdict:
        """Return what became of the posts so far."""
        ordered = sorted(self._seconds)
        p50, p99 = percentile(ordered, 0.50), percentile(ordered, 0.99)
        return PostVerdict(self._posted, dict(self._codes), p50, p99, self._repeated)

    async def wait_served(self, http: HttpClient) -> None:
        """Return once every connector serves."""
        for url in self.urls:
            while not await self._serves(http, url):  # noqa: ASYNC110 - another process is looked at
                await trio.sleep(AGAIN_SECONDS)

    async def _serves(self, http: HttpClient, url: str) -> bool:
        try:
            return (await http.head(f"{url}{VERSION_PATH}", self.headers)).status == 200  # noqa: PLR2004 - OK
        except Unreachable:
            return False

    async def run(self, http: HttpClient, rate: float, seconds: float, forms: Sequence[str] = ()) -> None:
        """Post at a steady rate, forms in turn, and wait for the last answers. Cancellation: at any time."""
        await self.wait_served(http)
        async with trio.open_nursery() as nursery:
            start = trio.current_time()
            for number, form in enumerate(islice(cycle(forms or POSTED_FORMS), round(rate * seconds))):
                await trio.sleep_until(start + number / rate)
                nursery.start_soon(self._post_everywhere, http, self.traffic.prepare(form))
            nursery.cancel_scope.deadline = trio.current_time() + LAST_ANSWER_SECONDS

    async def _post_everywhere(self, http: HttpClient, prepared: Prepared) -> None:
        post = HttpPost.of(prepared)
        async with trio.open_nursery() as nursery:
            for url in self.urls:
                nursery.start_soon(self.post, http, url, post)
        self.traffic.drop(prepared)

    async def post(self, http: HttpClient, url: str, post: HttpPost) -> None:
        """Post until there is an answer, or none will come. Repeating: the connector attaches to its work."""
        self._posted += 1
        began = trio.current_time()
        while (code := await self._post_once(http, url, post)) is None:
            self._repeated += 1
            await trio.sleep(AGAIN_SECONDS)
        self._codes[code] += 1
        if code == "ok":
            self._seconds.append(trio.current_time() - began)

    async def _post_once(self, http: HttpClient, url: str, post: HttpPost) -> str | None:
        """Return the code of the answer, None where the same post may be repeated."""
        try:
            answer = await http.post(f"{url}{post.path}", post.body, self.headers)
        except Unreachable:
            return None
        if answer.status == 200:  # noqa: PLR2004 - OK
            return "ok"
        try:
            failure = json.loads(answer.body)
            return None if failure["retryable"] else str(failure["code"])
        except (ValueError, LookupError, TypeError):
            return f"status {answer.status}"
