"""How the pipeline talks to the Core. Implemented by ``kms.core``."""

from __future__ import annotations

from typing import Protocol

from kmsconn.protocols.port import CoreCall


class Core(Protocol):
    """One KMS node's Core, behind one or several endpoints (shards): start and result of an id go to the same one."""

    async def start(self, call: CoreCall) -> str:
        """Hand over a request, to every endpoint where the call has no shard. OK and ALREADY_EXISTS are success (outcomes.md, submit).

        Returns what the Core said instead, where the call takes that for a success in doubt; else an empty text.

        Raises Unreachable, Overloaded, NotYet, Misconfigured, Rejected, Refused; Broken for a reply that is none.
        Cancellation: resets the stream; the Core may have it all the same. Repeating: the Core answers ALREADY_EXISTS.
        """
        ...

    async def decrypt(self, call: CoreCall) -> bytes | None:
        """Hand over a request and wait for its result in one call where the endpoint offers that, else only hand it over (annex C).

        Returns the result's protobuf bytes; None: the Core has the request, and its result is to be asked for.
        Raises as ``start``. Cancellation: as there. Repeating: the Core attaches to what it has, or does again what failed.
        """
        ...

    async def result(self, call: CoreCall) -> bytes:
        """Wait for a result and return its protobuf bytes (outcomes.md, answer).

        Raises NotYet when the long poll ended without one, Forgotten when the Core does not know the id (submit again),
        Unreachable, Overloaded, Misconfigured, Rejected, Refused, Aborted; Broken for a reply that is none.
        """
        ...
