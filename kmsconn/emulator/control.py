"""The emulator's own control port: an HTTP handler that tells what became of the requests, puts loads and faults on.

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
them, a group (chains, cores, buckets), a contract, or ``users``. Here too: the table of all drills, and which of them are on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import cycle, islice
from typing import Any, Final

import attrs
import msgspec
import trio

from kmsconn.emulator.buckets import BUCKET_DRILLS
from kmsconn.emulator.core_faults import CORE_DRILLS
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.drills.chain_drills import CHAIN_DRILLS
from kmsconn.emulator.drills.drill import Drill, DrillError, DrillScene, End, Target
from kmsconn.emulator.drills.other_drills import OTHER_DRILLS, contracts_of
from kmsconn.emulator.ground_truth import CommitteeGroundTruth, GroundTruth, Trace
from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.emulator.load import LAST_REPLY_TIMEOUT, POSTED_FORMS, HttpPost, Load, put_on
from kmsconn.emulator.users import Users

DRILLS: Final[tuple[type[Drill], ...]] = (*CHAIN_DRILLS, *CORE_DRILLS, *BUCKET_DRILLS, *OTHER_DRILLS)
GROUPS: Final = {"chains": Target.CHAIN, "cores": Target.CORE, "buckets": Target.BUCKET}
"""Names that stand for all targets of a kind."""


def targets_of(dependencies: EmulatedDependencies) -> dict[str, frozenset[Target]]:
    """Return the names of all targets, with the kinds that each is of."""
    own = {name: frozenset({Target(name), Target.CHAIN, Target.ANY}) for name in dependencies.clusters}
    own |= {name: frozenset({Target.CORE, Target.ANY}) for name in dependencies.cores_by_name}
    buckets = range(len(dependencies.buckets))
    own |= {f"bucket{index}": frozenset({Target.BUCKET, Target.ANY}) for index in buckets}
    own |= {name: frozenset({Target.ANY}) for name in dependencies.names if name not in own}
    own |= {name: frozenset({Target.CONTRACT}) for name in contracts_of(dependencies)}
    return own | {str(kind): frozenset({kind}) for kind in (Target.USERS, Target.MONITORING)}


def routes(targets: dict[str, frozenset[Target]]) -> Iterator[str]:
    """Yield the path of each drill for each target there is, with its body in words."""
    for drill in DRILLS:
        for name, kinds in targets.items():
            if drill.target in kinds:
                yield f"POST /{name}/{drill.name} {body_in_words(drill)}"


def body_in_words(drill: type[Drill]) -> str:
    """Return the fields of a drill's body with type and default."""
    inner = ", ".join(f'"{name}": {words}' for name, words in drill.fields().items())
    return "{" + inner + "}"


def find(name: str, kinds: frozenset[Target]) -> type[Drill] | None:
    """Return the drill of this name for a target of these kinds."""
    return next((drill for drill in DRILLS if drill.name == name and drill.target in kinds), None)


class UnknownDrillError(LookupError):
    """There is no drill, or no target, of this name."""


@attrs.frozen
class ActiveDrill:
    """One drill that is on; ``since`` in Trio time."""

    target: str
    drill: Drill
    since: float
    end: End = attrs.field(repr=False)


class ActiveDrills:
    """The drills of one emulation. ``run`` must run for those that have tasks, or look at each block."""

    def __init__(self, dependencies: EmulatedDependencies, users: Users[EmulatedDependencies]) -> None:
        self.scene = DrillScene(dependencies, users)
        self.active: list[ActiveDrill] = []
        """In the order in which they were put on."""
        self._dependencies = dependencies

    def put_on(self, target: str, name: str, content: bytes) -> None:
        """Put a drill on a target, or on all of a group, beside those that are on.

        Raises UnknownDrillError, msgspec.DecodeError for a body that cannot be read, and DrillError for one that cannot be carried out.
        """
        put_on: list[ActiveDrill] = []
        try:
            for member, drill in self._found(target, name):
                one = drill.read(content)
                end = one.put_on(self.scene, member)
                if end is not None:
                    put_on.append(ActiveDrill(member, one, trio.current_time(), end))
        except DrillError:
            for active in reversed(put_on):
                active.end()
            raise
        self.active += put_on

    def end(self, target: str, name: str) -> int:
        """End every drill of this name on a target or group, the newest first; return how many. Raises UnknownDrillError."""
        found = {(member, drill.name) for member, drill in self._found(target, name)}
        return self._end([one for one in self.active if (one.target, one.drill.name) in found])

    def end_all(self) -> int:
        """End every drill; return how many."""
        return self._end(list(self.active))

    def restarted(self, core: str) -> int:
        """End the drills that a restart of this Core ends; return how many."""
        return self._end([one for one in self.active if one.target == core and one.drill.restart_ends])

    def listing(self) -> list[dict[str, Any]]:
        """Return what is on, for JSON; ``seconds``: for how long."""
        now = trio.current_time()
        return [
            {
                "target": one.target,
                "fault": one.drill.name,
                "body": msgspec.to_builtins(one.drill),
                "seconds": round(now - one.since, 3),
            }
            for one in self.active
        ]

    def catalogue(self) -> list[dict[str, Any]]:
        """Return every drill that there is here, for JSON."""
        targets = targets_of(self._dependencies)
        return [
            {
                "fault": drill.name,
                "targets": there,
                "body": drill.fields(),
                "does": drill.does(),
                "connector": drill.connector(),
            }
            for drill in DRILLS
            if (there := [name for name, kinds in targets.items() if drill.target in kinds])
        ]

    def body_of(self, target: str, name: str) -> str:
        """Return the fields of a drill's body in words. Raises UnknownDrillError."""
        return body_in_words(self._found(target, name)[0][1])

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what drills need, until cancelled."""
        async with trio.open_nursery() as nursery:
            self.scene.start = partial(_start, nursery)
            task_status.started()
            while True:
                await self._dependencies.gateway.wait_change()
                for look in list(self.scene.each_block):
                    look()

    def _found(self, target: str, name: str) -> list[tuple[str, type[Drill]]]:
        targets = targets_of(self._dependencies)
        group = GROUPS.get(target)
        members = [name for name, kinds in targets.items() if name == target or group in kinds]
        found = [(member, drill) for member in members if (drill := find(name, targets[member])) is not None]
        if not found:
            raise UnknownDrillError(f"/{target}/{name}")
        return found

    def _end(self, ending: list[ActiveDrill]) -> int:
        for one in reversed(ending):
            self.active = [other for other in self.active if other is not one]
            one.end()
        return len(ending)


def _start(nursery: trio.Nursery, work: Callable[[], Awaitable[object]]) -> End:
    scope = trio.CancelScope()
    nursery.start_soon(_within, scope, work)
    return scope.cancel


async def _within(scope: trio.CancelScope, work: Callable[[], Awaitable[object]]) -> None:
    with scope:
        await work()


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
        names = self.dependencies.names
        actions = (f"POST /{name}/{action}" for name in names for action in self._actions(name))
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
