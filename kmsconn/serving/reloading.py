"""API keys and certificate as they are on disk now. A file that cannot be used changes nothing, and an alert says why."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Never

import attrs
import trio

from kmsconn.config.http_api import ApiKeysFault, keys_of
from kmsconn.config.working import HttpApi, ServerTls
from kmsconn.model.alerts import Board
from kmsconn.serving.keys import ApiClients
from kmsconn.transport.certificates import TlsFault, end_of, server_context, told_end
from kmsconn.transport.ports import Offload

RELOAD_SECONDS: Final = 5.0
"""Between two looks at the files."""

HTTP_API: Final = "http api"
"""What alerts call this part."""

_OFFLOAD: Final = "http api files"

Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Return what tells one content of a file from another without reading it; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@attrs.define(eq=False)
class WatchedFiles:
    """Files that belong together. ``load`` uses what they hold now, and raises what ``faults`` names where it cannot be used.

    Two files are rarely replaced in one moment, so an alert is raised once they have been as they are for two looks.
    """

    paths: Sequence[Path]
    load: Callable[[], None]
    cause: str
    board: Board
    _used: Stamp = attrs.field(default=(), init=False)
    _failed: Stamp | None = attrs.field(default=None, init=False)

    def look(self) -> str | None:
        """Load the files where they have changed. Blocks. Returns why they cannot be used, empty if they can, None if it is too early."""
        stamp = tuple(map(stamp_of, self.paths))
        if stamp == self._used:
            self._failed = None
            return ""
        try:
            self.load()
        except (OSError, ApiKeysFault, TlsFault) as error:
            first, self._failed = self._failed != stamp, stamp
            return None if first else f"{error}; what was read before stays in use"
        self._used, self._failed = stamp, None
        return ""

    def tell(self, fault: str | None) -> None:
        """Raise or clear the alert."""
        if fault is not None:
            self.board.set(self.cause, HTTP_API, fault)


class TlsContext:
    """The context of new connections; None where the server has no TLS."""

    def __init__(self, files: ServerTls | None) -> None:
        self._files = files
        self.current: ssl.SSLContext | None = None
        self.end: float | None = None
        """When the certificate ends, in Unix time."""
        self.load()

    def load(self) -> None:
        """Use what the files hold now. Raises TlsFault."""
        if self._files is not None:
            self.current = server_context(self._files.cert_path, self._files.key_path)
            try:
                self.end = end_of(self._files.cert_path)
            except (OSError, ValueError):  # the library has read it: its end alone is not known
                self.end = None

    def told_end(self, now: float) -> str:
        """Return what is said of a certificate that ends soon, nothing of any other."""
        said = "" if self.end is None else told_end(self.end, now)
        return said and f"the certificate of tls_config.cert_path {said}"


def load_keys(settings: HttpApi, clients: ApiClients) -> None:
    """Use the keys that the file holds now, and the one without a file. Raises OSError and ApiKeysFault."""
    clients.replace(keys_of(settings.keys_file, settings.key_digest))


def watched_files(
    settings: HttpApi, clients: ApiClients, tls: TlsContext, board: Board
) -> tuple[WatchedFiles, ...]:
    """Return the files that a server uses, as far as it has any."""
    watched = []
    if settings.keys_file is not None:
        load = partial(load_keys, settings, clients)
        watched.append(WatchedFiles((settings.keys_file,), load, "api-keys", board))
    if settings.tls is not None:
        paths = (settings.tls.cert_path, settings.tls.key_path)
        watched.append(WatchedFiles(paths, tls.load, "certificate", board))
    return tuple(watched)


async def watch(
    files: Sequence[WatchedFiles], offload: Offload, look_further: Callable[[], None] = lambda: None
) -> Never:
    """Look at the files again and again until cancelled, and at what follows from them. Repeating: what has not changed is not read."""
    while True:
        look_further()
        await trio.sleep(RELOAD_SECONDS)
        for one in files:
            one.tell(await offload(_OFFLOAD, one.look))
