"""KeyManager: numbers key requests and takes the answers by the real rules, ids alone and no signature. Makes no key.

Answers are counted by request (preparations, CRS) or by what was produced (keys, switching keys), and that an answer is a sender's first
is told by what was produced. Which requests are made when, and which key coprocessors activate, is not looked at. Storage that somebody
may look at is laid out as in the real contract.
Source: httpz-rc7.md, 1.3, 2.2 and annex C.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs

from kmsconn.emulator.contracts.contract import AbiContract, Handler, count, is_set, set_once
from kmsconn.emulator.execution import Frame, revert
from kmsconn.emulator.httpz.registry import HttpzContract
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import Kind
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.protocols.httpz_rc7.profile import OPERATIONS
from kmsconn.protocols.queries import mapping_slot

_BASE = contracts.KEY_MANAGER_BASE
_CURRENT_KEY = _BASE + 27
_GAS = 150_000
_NO_DIGEST = bytes(32)


@attrs.frozen
class _Operation:
    """The storage of one kind: counter, counts, what is done, who answered; by what answers are counted."""

    counts: int
    done: int
    answered: int
    counter: int | None = None
    by_request: bool = False


_OPERATIONS: Mapping[Kind, _Operation] = {
    Kind.PREP_KEYGEN: _Operation(2, 3, 4, counter=1, by_request=True),
    Kind.KEYGEN: _Operation(7, 8, 6),
    Kind.PREP_KSKGEN: _Operation(10, 11, 12, counter=9, by_request=True),
    Kind.KSKGEN: _Operation(17, 18, 16),
    Kind.CRSGEN: _Operation(21, 23, 22, counter=20, by_request=True),
}
_REPLIES = {row.kind: row.reply.name for row in OPERATIONS}
_NAMES = {kind: _REPLIES[kind].removesuffix("Response") for kind in _OPERATIONS}
_PREPARES = {Kind.PREP_KEYGEN: Kind.KEYGEN, Kind.PREP_KSKGEN: Kind.KSKGEN}


class KeyManager(AbiContract):
    """The contract. Who may ask for keys is not looked at."""

    def __init__(self, address: Address, httpz: HttpzContract) -> None:
        self._httpz = httpz
        replies = {_REPLIES[kind]: partial(self._take, kind) for kind in _OPERATIONS}
        super().__init__(address, contracts.KEY_MANAGER, replies | self._requests())

    def _requests(self) -> dict[str, Handler]:
        named = (Kind.PREP_KEYGEN, Kind.PREP_KSKGEN, Kind.CRSGEN)
        return {f"{_NAMES[kind]}Request": partial(self._ask_named, kind) for kind in named} | {
            "keygenRequest": self._ask_key,
            "kskgenRequest": self._ask_switching_key,
            "getCurrentKeyId": lambda frame: (frame.load(_CURRENT_KEY),),
        }

    def ask(self, frame: Frame, kind: Kind, *rest: Any) -> None:
        """Emit a request, whatever it rests on; ``rest`` is its event's, without the number where it is given one."""
        operation = _OPERATIONS[kind]
        values = rest if operation.counter is None else (count(frame, _BASE + operation.counter), *rest)
        frame.write(rest[-1], "parameters", kind, values[0])
        frame.emit(contracts.KEY_MANAGER.event(f"{_title(kind)}Request"), *values)

    def name_parameters(self, frame: Frame, name: str, digest: bytes) -> None:
        """Let FHE parameters have a name."""
        frame.write(digest, "digest", name)

    def _ask_named(self, kind: Kind, frame: Frame, name: str) -> None:
        self.ask(frame, kind, frame.read("digest", name))

    def _ask_key(self, frame: Frame, prepared: int) -> None:
        self.ask(frame, Kind.KEYGEN, prepared, frame.read("parameters", Kind.KEYGEN, prepared))

    def _ask_switching_key(self, frame: Frame, prepared: int, source: int, destination: int) -> None:
        digest = frame.read("parameters", Kind.KSKGEN, prepared)
        self.ask(frame, Kind.KSKGEN, prepared, source, destination, digest)

    def is_done(self, frame: Frame, kind: Kind, produced: int) -> bool:
        """Return whether enough nodes have said that they made this."""
        return is_set(frame, _BASE + _OPERATIONS[kind].done, produced)

    def _take(self, kind: Kind, frame: Frame, asked: int, produced: int) -> None:
        frame.meter.burn(_GAS)
        self._httpz.check_sender(frame)
        operation = _OPERATIONS[kind]
        if not set_once(frame, mapping_slot(_BASE + operation.answered, produced), frame.sender):
            revert(contracts.KEY_MANAGER.error(f"{_title(kind)}KmsNodeAlreadyResponded"), produced)
        counted = asked if operation.by_request else produced
        answers = count(frame, mapping_slot(_BASE + operation.counts, counted))
        if answers > self._httpz.threshold(frame) and not self.is_done(frame, kind, produced):
            self._finish(frame, kind, asked, produced)

    def _finish(self, frame: Frame, kind: Kind, asked: int, produced: int) -> None:
        frame.store(mapping_slot(_BASE + _OPERATIONS[kind].done, produced), 1)
        digest = frame.read("parameters", kind, asked, default=_NO_DIGEST)
        if kind in _PREPARES:
            frame.write(digest, "parameters", _PREPARES[kind], produced)
        told = () if kind in _PREPARES else (digest,)
        frame.emit(contracts.KEY_MANAGER.event(f"{_title(kind)}Response"), asked, produced, *told)


def _title(kind: Kind) -> str:
    """Return the name of a kind as events and errors write it."""
    name = _NAMES[kind]
    return name[0].upper() + name[1:]
