"""The emulator's own door: an HTTP handler that tells what became of the requests, puts loads on and makes neighbours fail.

    GET  /status                what the chain shows, counted
    GET  /requests              every request with its moments, in Unix seconds
    POST /load                  {"rate": 50, "seconds": 10, "size": 1024, "forms": [], "prepared": true, "patience": 30},
                                 answered when it is over
    POST /{neighbour}/shut      its connections break, new ones are refused, until
    POST /{neighbour}/open
    POST /{core}/restart        the Core forgets every request

Neighbours are named as in ``Neighbours.names``: gateway, ethereum, host, core0, bucket0, bucket1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
import msgspec

from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.emulator.load import PATIENCE, Ledger, Load, put_on
from kmsconn.emulator.neighbours import Neighbours
from kmsconn.emulator.oracle import Oracle, Trace
from kmsconn.emulator.users import Users

COLUMNS = ("visible", "started", "given", "sent", "answered")
"""The moments of a request: its block is there, first start call at the Core, answer of the Core, first transaction, its block is there."""
_JSON = (("content-type", "application/json"),)


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /load``. ``size`` in bytes for each ciphertext, as before where there is none; ``forms`` as in `Load`."""

    rate: float
    seconds: float
    size: int | None = None
    forms: tuple[str, ...] = ()
    prepared: bool = False
    patience: float = PATIENCE


@attrs.define(eq=False)
class Control:
    """Answers for one emulation; ``epoch`` is the Unix time at which Trio's clock showed zero."""

    neighbours: Neighbours
    traffic: Users[Neighbours]
    oracle: Oracle
    epoch: float

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["status"]:
                return _json(attrs.asdict(self.oracle.verdict()))
            case "GET", ["requests"]:
                return _json(self._rows(self.oracle.traces.values()))
            case "POST", ["load"]:
                return await self._load(request.body)
            case "POST", [name, act]:
                return self._act(name, act)
        return _refused(404, "nothing is there; see the docstring of kmsconn.emulator.control")

    async def _load(self, body: bytes) -> HttpResponse:
        try:
            wanted = msgspec.json.decode(body, type=Wanted)
        except msgspec.DecodeError as error:
            return _refused(400, str(error))
        self.traffic.size = wanted.size or self.traffic.size
        ledger = Ledger()
        load = Load(wanted.rate, wanted.seconds, wanted.forms, wanted.prepared)
        await put_on(load, self.traffic, self.oracle, ledger, patience=wanted.patience)
        traces = [self.oracle.trace_of(sent) for sent in ledger.forms]
        return _json({"offered": load.count, **self._rows(trace for trace in traces if trace is not None)})

    def _act(self, name: str, act: str) -> HttpResponse:
        found = self._acts(name).get(act)
        if found is None:
            return _refused(404, f"{name} cannot {act}")
        found()
        return HttpResponse(204)

    def _acts(self, name: str) -> dict[str, Callable[[], None]]:
        door = self.neighbours.doors.get(name)
        acts = {} if door is None else {"shut": door.shut, "open": door.open}
        if name in self.neighbours.cores_by_name:
            acts["restart"] = self.neighbours.cores_by_name[name].core.restart
        return acts

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
