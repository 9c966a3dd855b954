"""What a drill is: a class for each fault of one kind of target, whose fields say how it is put on. Performs none."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin

import attrs
import msgspec
import trio

from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.core_faults import FaultyCore
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.users import Users
from kmsconn.errors import KmsconnError

End = Callable[[], None]
"""Takes a drill off again. Called once."""


class Target(StrEnum):
    """The kinds of targets; a name may be of several."""

    ANY = "dependency"
    CHAIN = "chain"
    GATEWAY = "gateway"
    ETHEREUM = "ethereum"
    HOST = "host"
    CORE = "core"
    BUCKET = "bucket"
    CONTRACT = "contract"
    USERS = "users"
    MONITORING = "monitoring"


class DrillError(KmsconnError):
    """A drill cannot be put on now: which field of its body stands in the way, and what to do."""

    def __init__(self, field: str, reason: str, remedy: str) -> None:
        super().__init__(f"{field}: {reason}; {remedy}")


@attrs.define(eq=False)
class DrillScene:
    """Everything that drills act on."""

    dependencies: EmulatedDependencies
    users: Users[EmulatedDependencies]
    start: Callable[[Callable[[], Awaitable[object]]], End] | None = None
    """Runs a task until it is over, or ended; None where nothing does."""
    each_block: list[Callable[[], None]] = attrs.field(factory=list)
    """Called after each block of the Gateway."""
    turns: defaultdict[object, trio.Lock] = attrs.field(factory=lambda: defaultdict(trio.Lock))
    """For those that end by time: each end restores what its beginning found, so those alike come one after the other."""
    monitoring: str = ""
    """Where the connector's monitoring port is, as host:port; empty as long as that is not known."""

    def chain(self, name: str) -> EmulatedChain:
        """Return a chain by the name under which its nodes listen."""
        return self.dependencies.clusters[name].nodes[0].chain

    def core(self, name: str) -> FaultyCore[Any]:
        """Return a Core by name."""
        return self.dependencies.cores_by_name[name]


class Drill(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One fault, as the JSON object of a ``POST`` describes it: a field is an argument, and its type has the bounds.

    The docstring of each is its row of docs/drills.md: what happens, and below what the connector does then.
    """

    name: ClassVar[str]
    target: ClassVar[Target]
    restart_ends: ClassVar[bool] = False
    """Whether a restart of the Core ends it too."""

    def put_on(self, scene: DrillScene, name: str) -> End | None:
        """Put it on the target of this name, and return what ends it, or None where it is over at once. Raises DrillError."""
        raise NotImplementedError

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read a body; none is an empty object. Raises msgspec.DecodeError, which names the field."""
        return msgspec.json.decode(content or b"{}", type=cls)

    @classmethod
    def fields(cls) -> dict[str, str]:
        """Return the fields of the body with type and default, in words."""
        return {field.name: _words(field) for field in msgspec.structs.fields(cls)}

    @classmethod
    def does(cls) -> str:
        """Return what happens, in sentences."""
        return _paragraphs(cls)[0]

    @classmethod
    def connector(cls) -> str:
        """Return what the connector does then, in sentences."""
        return _paragraphs(cls)[1]


def _paragraphs(drill: type[Drill]) -> list[str]:
    return [" ".join(part.split()) for part in inspect.cleandoc(drill.__doc__ or "").split("\n\n")]


def _words(field: msgspec.structs.FieldInfo) -> str:
    kind, *bounds = get_args(field.type) if get_origin(field.type) is Annotated else (field.type,)
    words = _KINDS.get(kind) or f"one of {', '.join(map(str, _choices(kind)))}"
    words += "".join(
        f" from {bound.ge}" + (f" to {bound.le}" if bound.le is not None else "") for bound in bounds
    )
    if field.required:
        return f"{words}, required"
    return f"{words}, default {msgspec.json.encode(field.default).decode()}"


def _choices(kind: Any) -> Iterable[Any]:
    """Return what an enumeration or a literal type allows."""
    return kind if isinstance(kind, type) and issubclass(kind, StrEnum) else get_args(kind)


_KINDS: dict[Any, str] = {
    bool: "flag",
    int: "whole number",
    float: "number",
    str: "text",
    Any: "any JSON",
    int | None: "whole number",
    str | None: "text",
    int | str | None: "number or text",
}


def changing(holder: Any, name: str, value: Any) -> End:
    """Set an attribute; the end sets it back."""
    before = getattr(holder, name)
    setattr(holder, name, value)
    return partial(setattr, holder, name, before)


def appended(target: list[Any], item: Any) -> End:
    """Append an item; the end removes it."""
    target.append(item)
    return partial(_remove, target, item)


def _remove(target: list[Any], item: Any) -> None:
    target[:] = [other for other in target if other is not item]


def together(*ends: End) -> End:
    """End several, the last first."""

    def end() -> None:
        for one in reversed(ends):
            one()

    return end
