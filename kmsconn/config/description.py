"""What a class of settings says of its fields: the form of a value, and other names; and values beside numbers and texts. Pure.

A field is annotated with a ``Form`` and what is special (aliases, an ``OptionName``), with a ``Section`` where its class has settings
of its own, or with ``Made`` where a function makes it of several options. The meaning of each stands in the docstring of its class, in a
line that begins with the field's name and a colon. Values are secrets, keys, addresses of databases, words of a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import attrs

from kmsconn.transport.urls import show_origin

PREFIX: Final = "KMS_CONNECTOR_"

WRONG: Final = "is a wrong name from the sample files of 0.14"
LATER: Final = "is the name that 0.15 gives it"
FORMER: Final = "is the former name"
OLDER: Final = "is the name before 0.14"
OF_PROXY: Final = "is the address of the proxy of 0.15, which relayers know"


REQUIRED: Final = attrs.NOTHING
"""The default of an option that must be set."""


@attrs.frozen(eq=False)
class Form:
    """The form of a value: ``read`` raises ValueError with a text that may be shown, ``word`` is its name, ``write`` what a file would say.

    ``path``: what stands before a path; None for what is none.
    """

    read: Callable[[Any], Any]
    word: str
    write: Callable[[Any], str] | None = None
    path: str | None = None


@attrs.frozen
class Alias:
    """Another name of an option. ``warning`` is said when it is used; ``translate`` turns its value into the option's.

    ``remark`` says what is to be known about a value, and returns an empty text for every other one. ``wins``: where one source gives both,
    this name counts, and not the option's own.
    """

    name: str
    warning: str = ""
    translate: Callable[[Any], Any] | None = None
    remark: Callable[[Any], str] | None = None
    option: str = ""
    wins: bool = False


@attrs.frozen
class OptionName:
    """The name of an option where it is not that of the field."""

    name: str


@attrs.frozen
class Section:
    """Settings of a class of their own: what begins the names of its options.

    ``defaults``: those of this place, by field. ``optional``: no option of it need be set.
    """

    prefix: str = ""
    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    optional: bool = False

    def name_of(self, field: str) -> str:
        """Return the name of the option of a field."""
        return f"{self.prefix}.{field}" if self.prefix else field


@attrs.frozen
class Made:
    """A value that a function of the profile makes of several options; ``options`` is a class that describes them."""

    options: type[attrs.AttrsInstance]
    section: Section = Section()


@attrs.frozen
class Described:
    """One option as the sources and the reference know it. ``in_file``: where a file is judged alone, it must stand there."""

    name: str
    form: Form
    default: Any = None
    aliases: tuple[Alias, ...] = ()
    in_file: bool = False

    @property
    def environment(self) -> str:
        """The name of the environment variable."""
        return environment_name(self.name)


def environment_name(name: str) -> str:
    """Return the environment variable of a dotted name."""
    return PREFIX + name.upper().replace(".", "__")


@attrs.frozen
class SettingsField:
    """A field of a class of settings: its annotation, its own class, and the name and aliases of its option where it is one."""

    name: str
    kind: Form | Section | Made
    type: Any
    option: str
    aliases: tuple[Alias, ...]
    default: Any


def form_of(annotated: Any) -> Form:
    """Return the form that an annotation names."""
    form: Form = next(_metadata(annotated))
    return form


@cache
def fields_of(cls: type[attrs.AttrsInstance]) -> tuple[SettingsField, ...]:
    """Return the fields of a class that say how they are read."""
    defaults = {field.name: field.default for field in attrs.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    said = {name: list(_metadata(hint)) for name, hint in hints.items()}
    return tuple(_field(name, hints[name], said[name], defaults[name]) for name in hints if said[name])


def _metadata(hint: Any) -> Iterator[Any]:
    """Yield what an annotation says, the innermost first."""
    if get_origin(hint) is Annotated:
        yield from _metadata(hint.__origin__)
        yield from hint.__metadata__
    elif isinstance(hint, UnionType) or get_origin(hint) is Union:
        yield from (one for part in get_args(hint) for one in _metadata(part))


def _field(name: str, hint: Any, said: Sequence[Any], default: Any) -> SettingsField:
    kind, *others = said
    within = get_args(hint)[0]
    classes = [one for one in (within, *get_args(within)) if isinstance(one, type) and attrs.has(one)]
    option = next((one.name for one in others if isinstance(one, OptionName)), name)
    aliases = tuple(one for one in others if isinstance(one, Alias))
    return SettingsField(name, kind, classes[0] if classes else None, option, aliases, default)


def described(cls: type[attrs.AttrsInstance], section: Section = Section()) -> Iterator[Described]:
    """Yield the options that a class describes, those of its sections among them."""
    for field in fields_of(cls):
        yield from options_of(field, section)


def options_of(field: SettingsField, section: Section = Section()) -> Iterator[Described]:
    """Yield the options that one field of a class describes."""
    if isinstance(field.kind, Section):
        yield from described(field.type, field.kind)
    elif isinstance(field.kind, Made):
        yield from described(field.kind.options, field.kind.section)
    else:
        default = _default(section.defaults.get(field.name, field.default), section)
        yield Described(section.name_of(field.option), field.kind, default, field.aliases)


def _default(default: Any, section: Section) -> Any:
    """Return the default of an option: what a class makes anew for each of its values is none."""
    if default is attrs.NOTHING:
        return None if section.optional else REQUIRED
    return None if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]


class Secret:
    """A text that never shows: neither ``str`` nor ``repr`` nor an exception holds it; ``reveal`` gives it to the one who signs."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


@attrs.frozen
class AwsKmsKey:
    """A key that stays in AWS KMS: its id, ARN or alias; region and endpoint where AWS's own resolution should not find them."""

    key_id: str
    region: str | None = None
    endpoint: str | None = attrs.field(default=None, repr=lambda url: str(url and show_origin(url)))


@attrs.frozen
class PostgresAddress:
    """Where a journal in PostgreSQL is, and how it is reached; as text the servers and the database, and nothing secret.

    ``hosts`` are names, addresses or folders of a socket, in order of preference; none: what libpq takes by itself, as for an absent user,
    password or port. ``ports`` are none, one for all hosts, or as many as hosts. ``parameters`` are others of libpq, by their names.
    ``password_file`` has the password, as whoever rotates it has it at present: it is read for each connection.
    """

    database: str
    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    user: str = attrs.field(default="", repr=False)
    password: Secret | None = None
    parameters: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    password_file: Path | None = None

    def __str__(self) -> str:
        """Return it as a URL without user, password and parameters."""
        ports = self.ports if len(self.ports) == len(self.hosts) else self.ports[:1] * len(self.hosts)
        shown = [f"[{host}]" if ":" in host else host for host in self.hosts]
        if ports:
            shown = [f"{host}:{port}" for host, port in zip(shown, ports, strict=True)]
        servers = ",".join(shown)
        if any(host.startswith("/") for host in self.hosts):
            return f"postgresql:///{self.database}?host={servers}"
        return f"postgresql://{servers}/{self.database}"

    @property
    def is_local(self) -> bool:
        """Whether every server is reached by a socket of this machine's file system. False where libpq chooses by itself."""
        return bool(self.hosts) and all(host.startswith(("/", "@")) for host in self.hosts)

    def keywords(self) -> dict[str, Any]:
        """Return the parameters of a connection as libpq names them, a password that is known among them: not to be shown."""
        named = {
            "host": ",".join(self.hosts),
            "port": ",".join(map(str, self.ports)),
            "dbname": self.database,
            "user": self.user,
            "password": "" if self.password is None else self.password.reveal(),
        }
        return {**self.parameters, **{name: value for name, value in named.items() if value}}


class Role(StrEnum):
    """What a process does, of what several processes over one journal share."""

    HEAR = "hear"
    """It reads the contracts and records requests."""
    WORK = "work"
    """It checks requests, fetches ciphertexts and asks the Core."""
    SEND = "send"
    """It sends replies until they are final."""


ROLES: Final = frozenset(Role)


class AttestationMode(StrEnum):
    """What becomes of a ciphertext attestation that does not hold."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


class Mode(StrEnum):
    """Whether a connector sends its replies, or only compares them with those that another connector sends for the same node."""

    ACTIVE = "active"
    SHADOW = "shadow"


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class StatusPage(StrEnum):
    """Where the status page is served."""

    LOOPBACK = "loopback"
    ON = "on"
    OFF = "off"


class CompressedKeySets(StrEnum):
    """Whether fresh keys are asked for as compressed key sets; ``auto`` goes by the version of the contract that asks for a key."""

    AUTO = "auto"
    ALWAYS = "true"
    NEVER = "false"


def compressed_key_sets(value: CompressedKeySets | bool) -> CompressedKeySets:
    """Return a truth value as one of these."""
    return CompressedKeySets(str(value).lower())
