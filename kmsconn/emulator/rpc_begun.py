"""A JSON-RPC request or batch that was carried out, and the answer it becomes. Carries nothing out itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from kmsconn.emulator.node_error import NodeError
from kmsconn.emulator.rpc_methods import Later


@attrs.frozen
class Begun:
    """A request that was carried out: its id, and its result, its error, or what it still waits for."""

    id: Any
    result: Any = None
    error: NodeError | None = None
    later: Later | None = None

    async def finish(self) -> dict[str, Any]:
        """Wait if necessary and return the JSON-RPC answer."""
        if self.later is None:
            return self.as_json()
        try:
            return Begun(self.id, await self.later()).as_json()
        except NodeError as error:
            return Begun(self.id, error=error).as_json()

    @property
    def waits(self) -> bool:
        """Tell whether the answer is not there yet."""
        return self.later is not None

    def all(self) -> Iterator[Begun]:
        """Yield the request."""
        yield self

    def as_json(self) -> dict[str, Any]:
        """Return the JSON-RPC answer of a request that waits for nothing."""
        head = {"jsonrpc": "2.0", "id": self.id}
        return (
            {**head, "result": self.result} if self.error is None else {**head, "error": self.error.as_json()}
        )


class BegunBatch:
    """A batch whose requests are carried out one by one: the next one when the one before is answered, as nodes do.

    ``requests`` carries one out with each step; those up to the first that waits are carried out here.
    """

    def __init__(self, requests: Iterator[Begun]) -> None:
        self._requests = requests
        self._begun: list[Begun] = []
        for one in requests:
            self._begun.append(one)
            if one.waits:
                break

    @property
    def waits(self) -> bool:
        """Tell whether the answers are not there yet."""
        return self._begun[-1].waits

    def all(self) -> Iterator[Begun]:
        """Yield every request, carried out by the time it comes."""
        yield from self._begun
        for one in self._requests:
            self._begun.append(one)
            yield one

    async def finish(self) -> list[dict[str, Any]]:
        """Wait for each in turn and return the JSON-RPC answers."""
        return [await one.finish() for one in self.all()]
