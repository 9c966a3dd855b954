"""What settings are made of beside numbers and texts: secrets, keys, addresses of databases, words of a choice. Reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.transport.urls import show_origin


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
