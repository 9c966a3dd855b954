"""What a fault is: one class for each, of one kind of target, whose fields say how it is put on; and the chance that it strikes.

Drills of the control port, their page and worlds have the same classes. Performs none.
"""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypeVar, get_args, get_origin

import attrs
import msgspec
import trio

from kmsconn.errors import KmsconnError

if TYPE_CHECKING:
    from kmsconn.emulator.buckets import BucketFaults
    from kmsconn.emulator.chain import EmulatedChain
    from kmsconn.emulator.core_faults import FaultyCore
    from kmsconn.emulator.dependencies import EmulatedDependencies
    from kmsconn.emulator.rpc import RpcNode
    from kmsconn.emulator.users import Users

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

    def on_nodes(self, name: str, put_on: Callable[[RpcNode], End], only: int | None = None) -> End:
        """Put something on all nodes of a chain, or on one of them."""
        nodes = self.dependencies.clusters[name].nodes
        return together(*(put_on(node) for node in (nodes if only is None else [nodes[only % len(nodes)]])))

    def core(self, name: str) -> FaultyCore[Any]:
        """Return a Core by name."""
        return self.dependencies.cores_by_name[name]

    def bucket(self, name: str) -> BucketFaults:
        """Return a bucket by name."""
        return self.dependencies.buckets[index_of(name)]


def index_of(bucket: str) -> int:
    """Return the number that a bucket's name ends in."""
    return int(bucket.removeprefix("bucket"))


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

    @property
    def label(self) -> str:
        """The name, with what is answered or how it goes wrong, by which it is counted: ``status 403``, ``spoil cut``."""
        said = (getattr(self, one) for one in self.__struct_fields__ if one in {"code", "how"})
        return " ".join([self.name, *map(str, said)])

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
    for bound in bounds:
        words += f" from {bound.ge}" + (f" to {bound.le}" if bound.le is not None else "")
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


class Occasional(Drill, frozen=True, kw_only=True):
    """Strikes a share of the occasions, ``times`` of them in all (None: no end)."""

    share: float = 1.0
    times: int | None = None

    def meant(self, method: str, params: Sequence[Any]) -> bool:  # noqa: ARG002 - for those that choose
        """Say whether calls of a method, with these parameters, may be struck."""
        return True

    def about(self, params: Sequence[Any]) -> str:  # noqa: ARG002 - likewise
        """Return what a call is about, for a fault that keeps to what it struck first; empty for any other."""
        return ""


F = TypeVar("F", bound=Occasional)


@attrs.define(eq=False)
class FaultInjection(Generic[F]):
    """A fault where it may strike: at calls of a method (None: of any); ``left``: how often still (None: no end)."""

    fault: F
    method: str | None = None
    left: int | None = attrs.field(init=False)
    random: Random = attrs.field(init=False, repr=False)
    """Of its own, so that turning one knob never moves when another fault strikes."""
    _kept: str = attrs.field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self.left, self.random = self.fault.times, Random(self.fault.label)

    def strikes(self, method: str, params: Sequence[Any] = ()) -> bool:
        """Decide about one call, and count it."""
        if self.left == 0 or self.method not in {None, method} or not self.fault.meant(method, params):
            return False
        about = self.fault.about(params)
        if self._kept not in {"", about} or self.random.random() >= self.fault.share:
            return False
        self._kept = about
        self.left = None if self.left is None else self.left - 1
        return True


@attrs.define(eq=False, kw_only=True)
class Faulty(Generic[F]):
    """The faults of one server: scripted ones first, call by call, else by chance, the newest first."""

    injections: list[FaultInjection[F]] = attrs.field(factory=list)
    counts: Counter[Any] = attrs.field(factory=Counter, init=False)
    """What happened, by label."""
    _scripts: defaultdict[str | None, deque[F | None]] = attrs.field(
        factory=lambda: defaultdict(deque), init=False, repr=False
    )

    def strike(self, fault: F, method: str | None = None) -> End:
        """Let a fault strike from now on, before those that were put on earlier."""
        return appended(self.injections, FaultInjection(fault, method))

    def heal(self) -> None:
        """Be honest from now on."""
        self._scripts.clear()
        self.injections.clear()

    def struck(self, method: str, *keys: str | None, params: Sequence[Any] = ()) -> F | None:
        """Return the fault that strikes a call, if one does: the next one scripted under one of the keys, or one by chance."""
        for key in keys:
            if script := self._scripts.get(key):
                return script.popleft()
        return next((one.fault for one in reversed(self.injections) if one.strikes(method, params)), None)


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
