"""What all emulated contracts share: dispatch by selector, lenient decoding. Has no rule of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kmsconn.emulator.execution import Frame, Reverted
from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Abi, Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain

SELECTOR_BYTES = 4
Handler = Callable[..., tuple[Any, ...] | None]
"""Called with the frame and the decoded arguments; returns the results, None for none."""


class AbiContract:
    """A contract whose functions are Python methods."""

    def __init__(self, address: Address, abi: Abi, handlers: Mapping[str, Handler]) -> None:
        self.address = address
        self._entries: dict[bytes, tuple[Function, Handler]] = {}
        for name, handler in handlers.items():
            self.offer(abi.function(name), handler)

    def offer(self, function: Function, handler: Handler) -> None:
        """Run a handler for a function."""
        self._entries[function.selector] = function, handler

    def execute(self, frame: Frame) -> bytes:
        """Decode the calldata, run the function, encode its results. Raises Reverted, without data for what it does not know."""
        entry = self._entries.get(frame.data[:SELECTOR_BYTES])
        if entry is None:
            raise Reverted
        function, handler = entry
        try:
            values = function.decode(frame.data, exact=False)
        except Undecodable as error:
            raise Reverted from error
        return function.encode_result(*(handler(frame, *values) or ()))


def domain_teller(domain: Domain) -> Handler:
    """Return what tells an EIP-712 domain, as EIP-5267 has it."""

    def tell(frame: Frame) -> tuple[Any, ...]:
        del frame
        return (
            b"\x0f",
            domain.name,
            domain.version,
            domain.chain_id,
            domain.verifying_contract,
            bytes(32),
            (),
        )

    return tell
