"""Relayers that post decryptions to connectors over HTTP, and what each connector answered. Listens nowhere and prints nothing.

A post is repeated while its answer says that it may be, as a relayer does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any, Final

import attrs
import trio

from kmsconn.emulator.contracts.request_calls import UNIFIED_CALL
from kmsconn.emulator.ground_truth import percentile
from kmsconn.emulator.traffic import Traffic
from kmsconn.emulator.users import Prepared
from kmsconn.errors import Unreachable
from kmsconn.ethereum.hexes import to_hex
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.http_decryption import ATTESTATION_TYPE
from kmsconn.serving.decryptions import PUBLIC_PATH, USER_PATH, VERSION_PATH
from kmsconn.transport.http import HttpClient

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


def _user_document(calldata: bytes) -> Mapping[str, Any]:
    entries, user, public_key, contracts, (start, duration), signature, extra_data = DECRYPTION.function(
        UNIFIED_CALL
    ).decode(calldata)
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
