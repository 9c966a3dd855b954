"""How the pipeline talks to the Core. Implemented by ``core_client.client``."""

from __future__ import annotations

from typing import Protocol

import attrs

from kmsconn.protocols.port import CoreCall


@attrs.frozen
class Started:
    """What came of handing a request over.

    ``uncertain``: what the Core said instead, where only the result tells whether that is a success. ``existed``: it has the id already
    (``ALREADY_EXISTS``). ``reply``: the result's protobuf bytes, where it came at once. ``said``: what each endpoint answered to a start.
    """

    uncertain: str = ""
    existed: bool = False
    reply: bytes | None = attrs.field(default=None, repr=False)
    said: tuple[bytes, ...] = attrs.field(default=(), repr=False, eq=False)


class Core(Protocol):
    """One KMS node's Core, behind one or several endpoints (shards): start and result of an id go to the same one."""

    async def start(self, call: CoreCall) -> Started:
        """Hand over a request, to every endpoint where the call has no shard. OK and ALREADY_EXISTS are success (outcomes.md, submit).

        Raises Unreachable, Overloaded, NotYet, Misconfigured, Rejected, Refused; Broken for a reply that is none.
        Cancellation: resets the stream; the Core may have it all the same. Repeating: the Core answers ALREADY_EXISTS.
        """
        ...

    def waits(self, call: CoreCall) -> bool:
        """Say whether ``decrypt`` may wait for a result; an endpoint that said that it does not is only handed the request."""
        ...

    async def decrypt(self, call: CoreCall) -> Started:
        """Hand over a request and wait for its result in one call where the endpoint offers that, else only hand it over (annex C).

        Without a reply the Core has the request, and its result is to be asked for.
        Raises as ``start``. Cancellation: as there. Repeating: the Core attaches to what it has, or does again what failed.
        """
        ...

    async def result(self, call: CoreCall) -> bytes:
        """Wait for a result and return its protobuf bytes (outcomes.md, answer).

        Raises NotYet when the long poll ended without one, Forgotten when the Core does not know the id (submit again),
        Unreachable, Overloaded, Misconfigured, Rejected, Refused, Aborted; Broken for a reply that is none.
        """
        ...
