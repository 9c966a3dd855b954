"""The emulator's own toggle_port: an HTTP handler that tells what became of the requests, puts loads and faults on.

    GET  /status                what the chain shows, counted; of a committee also for each of its nodes
    GET  /requests              every request with its moments, in Unix seconds
    POST /load                  {"rate": 50, "seconds": 10, "size": 1024, "forms": [], "prepared": true, "reply_timeout": 30},
                                 answered when it is over
    POST /posts                 {"count": 100, "forms": []}: as many decryptions as relayers post them over HTTP, paths and bodies; their
                                 ciphertexts lie in the buckets from then on
    POST /{dependency}/shut     its connections break, new ones are refused, until
    POST /{dependency}/open
    POST /{core}/restart        the Core forgets every request
    GET  /faults                the faults that are on, and all that there are
    POST /{target}/{fault}      puts one on, see docs/drills.md; {} where the body names nothing
    DELETE /{target}/{fault}    ends it; the newest of several first
    DELETE /faults              ends all

Dependencies are named as in ``EmulatedDependencies.names``: gateway, ethereum, host, core0, bucket0, bucket1, storage0; a target is one of
them, a group (chains, cores, buckets), a contract, or ``users``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import cycle, islice
from typing import Any

import attrs
import msgspec
import trio

from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.drills.active import ActiveDrills, UnknownDrillError, routes, targets_of
from kmsconn.emulator.drills.drill import DrillError
from kmsconn.emulator.ground_truth import CommitteeGroundTruth, GroundTruth, Trace
from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.emulator.load import LAST_REPLY_TIMEOUT, Load, put_on
from kmsconn.emulator.relayers import POSTED_FORMS, HttpPost
from kmsconn.emulator.users import Users

COLUMNS = ("visible", "started", "given", "sent", "answered")
"""The moments of a request: its block is there, first start call at the Core, answer of the Core, first transaction, its block is there."""
_FIXED = ("GET /status", "GET /requests", "GET /faults", "DELETE /faults", "POST /load", "POST /posts")
_JSON = (("content-type", "application/json"),)


class WantedLoad(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /load``. ``size`` in bytes for each ciphertext, as before where there is none; ``forms`` as in `Load`."""

    rate: float
    seconds: float
    size: int | None = None
    forms: tuple[str, ...] = ()
    prepared: bool = False
    reply_timeout: float = LAST_REPLY_TIMEOUT


class WantedPosts(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /posts``; forms in turn, all that are posted where none are named."""

    count: int
    forms: tuple[str, ...] = POSTED_FORMS


@attrs.define(eq=False)
class Control:
    """Answers for one emulation; ``epoch`` is the Unix time at which Trio's clock showed zero."""

    dependencies: EmulatedDependencies
    traffic: Users[EmulatedDependencies]
    committee: CommitteeGroundTruth
    epoch: float
    drills: ActiveDrills = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.drills = ActiveDrills(self.dependencies, self.traffic)

    @property
    def ground_truth(self) -> GroundTruth:
        """The ground truth of the first node, whose moments are shown."""
        return self.committee.nodes[0]

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["status"]:
                return _json(self._status())
            case "GET", ["requests"]:
                return _json(self._rows(self.ground_truth.traces.values()))
            case "POST", ["load" | "posts" as wanted]:
                return await (self._load if wanted == "load" else self._posts)(request.body)
            case "GET", ["faults"]:
                return _json({"on": self.drills.listing(), "faults": self.drills.catalogue()})
            case "DELETE", ["faults"]:
                return _json({"ended": self.drills.end_all()})
            case "POST", [name, action] if action in self._actions(name):
                self._actions(name)[action]()
                return HttpResponse(204)
            case "POST" | "DELETE" as method, [target, fault]:
                return self._turn(method, target, fault, request.body)
        return self._nothing_there()

    def _status(self) -> dict[str, Any]:
        """Return what the chain shows of the first node, and of a committee of each."""
        nodes = [attrs.asdict(node) for node in self.committee.verdict().nodes]
        return nodes[0] | ({"nodes": nodes} if len(nodes) > 1 else {})

    def _turn(self, method: str, target: str, fault: str, content: bytes) -> HttpResponse:
        """Put a fault on, or end it."""
        try:
            if method == "DELETE":
                return _json({"ended": self.drills.end(target, fault)})
            self.drills.put_on(target, fault, content)
        except UnknownDrillError:
            return self._nothing_there()
        except (msgspec.DecodeError, DrillError) as error:
            return _refused(400, f"{error}\n/{target}/{fault} takes {self.drills.body_of(target, fault)}")
        return HttpResponse(204)

    def _nothing_there(self) -> HttpResponse:
        actions = (
            f"POST /{name}/{action}" for name in self.dependencies.names for action in self._actions(name)
        )
        there = [*_FIXED, *actions, *routes(targets_of(self.dependencies))]
        return _refused(404, "there is no such path; there are:\n" + "\n".join(there))

    async def _load(self, body: bytes) -> HttpResponse:
        try:
            wanted = msgspec.json.decode(body, type=WantedLoad)
        except msgspec.DecodeError as error:
            return _refused(400, f"{error}; see docs/drills.md for the body of a load")
        self.traffic.size = wanted.size or self.traffic.size
        load = Load(wanted.rate, wanted.seconds, wanted.forms, wanted.prepared)
        queued = await put_on(load, self.traffic, self.committee, reply_timeout=wanted.reply_timeout)
        traces = [self.ground_truth.trace_of(sent) for sent in queued]
        return _json({"offered": load.count, **self._rows(trace for trace in traces if trace is not None)})

    async def _posts(self, body: bytes) -> HttpResponse:
        """Make posts; the dependencies go on serving meanwhile."""
        made = []
        try:
            wanted = msgspec.json.decode(body, type=WantedPosts)
            for form in islice(cycle(wanted.forms), wanted.count):
                post = HttpPost.of(self.traffic.prepare(form))
                made.append({"form": post.form, "path": post.path, "body": post.body.decode()})
                await trio.lowlevel.checkpoint()
        except (msgspec.DecodeError, LookupError, ValueError) as error:
            return _refused(400, f"{error}; forms that are posted: {', '.join(POSTED_FORMS)}")
        return _json({"posts": made})

    def _actions(self, name: str) -> dict[str, Callable[[], None]]:
        toggle_port = self.dependencies.toggle_ports.get(name)
        actions = {} if toggle_port is None else {"shut": toggle_port.shut, "open": toggle_port.open}
        if name in self.dependencies.cores_by_name:
            actions["restart"] = partial(self._restart, name)
        return actions

    def _restart(self, core: str) -> None:
        self.drills.restarted(core)
        self.dependencies.cores_by_name[core].core.restart()

    def _rows(self, traces: Iterable[Trace]) -> dict[str, Any]:
        return {"columns": COLUMNS, "rows": [self._row(trace) for trace in traces]}

    def _row(self, trace: Trace) -> list[float | None]:
        answered = None if trace.answer is None else trace.answer.at
        moments = (trace.at, trace.started, trace.given, trace.sent, answered)
        return [None if moment is None else round(self.epoch + moment, 6) for moment in moments]


def _json(content: Any) -> HttpResponse:
    return HttpResponse(200, _JSON, msgspec.json.encode(content))


def _refused(status: int, text: str) -> HttpResponse:
    return HttpResponse(status, (("content-type", "text/plain"),), text.encode())
