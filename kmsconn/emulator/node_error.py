"""The error object of a JSON-RPC node, and the texts that nodes use. Sends nothing."""

from __future__ import annotations

from typing import Any, Final

from kmsconn.errors import KmsconnError

SERVER_ERROR: Final = -32000
INVALID_PARAMS: Final = -32602
METHOD_NOT_FOUND: Final = -32601
INVALID_REQUEST: Final = -32600
PARSE_ERROR: Final = -32700
LIMIT_EXCEEDED: Final = -32005
PRUNED_HISTORY: Final = 4444
EXECUTION_REVERTED: Final = 3
SYNC_TIMEOUT: Final = 4

_SELECTOR_BYTES = 4


class NodeError(KmsconnError):
    """A node's refusal: the members of the JSON-RPC error object; ``data`` is any JSON value or None for no member."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.data = code, message, data

    def as_json(self) -> dict[str, Any]:
        """Return the error object."""
        plain = {"code": self.code, "message": self.message}
        return plain if self.data is None else {**plain, "data": self.data}


def refused(message: str) -> NodeError:
    """Return the error with which a node refuses a transaction."""
    return NodeError(SERVER_ERROR, message)


def reverted(data: bytes) -> NodeError:
    """Return the error of a call or estimate that reverted, with the same text as anvil: argument bytes raw where they are UTF-8."""
    return NodeError(EXECUTION_REVERTED, f"execution reverted{revert_text(data)}", "0x" + data.hex())


def revert_text(data: bytes) -> str:
    """Return what a node appends to ``execution reverted``: nothing, or selector and arguments."""
    if not data:
        return ""
    selector, arguments = data[:_SELECTOR_BYTES], data[_SELECTOR_BYTES:]
    text = f": custom error 0x{selector.hex()}"
    return f"{text}: {_readable(arguments)}" if arguments else text


def _readable(arguments: bytes) -> str:
    try:
        return arguments.decode()
    except UnicodeDecodeError:
        return arguments.hex()
