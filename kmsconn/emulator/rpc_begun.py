"""A JSON-RPC request that was carried out, and the answer it becomes. Carries nothing out itself."""

from __future__ import annotations

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
            return attrs.evolve(self, result=await self.later(), later=None).as_json()
        except NodeError as error:
            return attrs.evolve(self, error=error, later=None).as_json()

    def as_json(self) -> dict[str, Any]:
        """Return the JSON-RPC answer of a request that waits for nothing."""
        head = {"jsonrpc": "2.0", "id": self.id}
        return (
            {**head, "result": self.result} if self.error is None else {**head, "error": self.error.as_json()}
        )
