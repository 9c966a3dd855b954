"""The recorded ceremonies played again on anvil, with our Solidity at the recorded addresses. Judges nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from kmsconn.chain.port import Call, RpcError
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex, quantity
from tests.real.anvil import contracts
from tests.real.anvil.account import receipt
from tests.real.anvil.contracts import put_code, set_counters
from tests.real.anvil.world import Place, open_place
from tests.unit.emulator.ceremony_world import (
    BEGUN_BY_A_REPLY,
    ETHEREUM,
    EVENTS,
    FIRST_CONTEXT,
    FIRST_EPOCH,
    REVERTS,
    announcement,
    states_at,
)

CONFIG, GENERATION = (parse_address(ETHEREUM["contracts"][n]) for n in ("ProtocolConfig", "KMSGeneration"))


@attrs.define(eq=False)
class Recorded:
    """What each step gave on anvil."""

    place: Place
    receipts: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    """Of each event and of each reply (``name/node``): the receipt of its transaction."""
    errors: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    async def ask(self, method: str, *params: Any) -> Any:
        return await self.place.rpc.call(method, *params)

    async def mine_until(self, number: int) -> None:
        head = int(await self.ask("eth_blockNumber"), 16)
        if head < number:
            await self.ask("anvil_mine", quantity(number - head))

    async def turn(self, name: str, wish: tuple[Address, bytes]) -> None:
        """Let the owner begin something, in a block of its own."""
        (self.receipts[name],) = await self.place.owner.do(wish)

    async def reply(self, name: str, answer: dict[str, Any]) -> None:
        """Land one recorded reply from its recorded sender, whose key anvil does without."""
        call = answer["reply"]
        await self.ask("anvil_impersonateAccount", call["from"])
        await self.ask("anvil_setBalance", call["from"], quantity(10**20))
        transaction = {"from": call["from"], "to": call["to"], "data": call["calldata"], "gas": "0xb71b00"}
        sent = await self.ask("eth_sendTransaction", transaction)
        self.receipts[f"{name}/{answer['node']}"] = await receipt(self.place.rpc, from_hex(sent))

    async def collect_errors(self, state: str) -> None:
        for entry in REVERTS:
            if entry["state"] == state:
                (result,) = await self.place.rpc.batch([Call("eth_call", (entry["call"], "latest"))])
                assert isinstance(result, RpcError), entry["name"]
                self.errors[entry["name"]] = {"code": result.code, "data": result.data}


def _owner_call(entry: dict[str, Any]) -> tuple[Address, bytes]:
    said, config, generation = (
        entry["decoded"],
        partial(contracts.turn, "ProtocolConfig"),
        partial(contracts.turn, "KMSGeneration"),
    )
    match entry["event"]:
        case "PrepKeygenRequest":
            return GENERATION, generation("keygen", said["paramsType"])
        case "CrsgenRequest":
            return GENERATION, generation("crsgenRequest", said["maxBitLength"], said["paramsType"])
        case "AbortKeygen":
            return GENERATION, generation("abortKeygen", said["prepKeygenId"])
        case "AbortCrsgen":
            return GENERATION, generation("abortCrsgen", said["crsId"])
        case "NewKmsContext" if entry["name"] == "context_1_first":
            ids = (said["contextId"], said["previousContextId"])
            return CONFIG, config("announce", *ids, *announcement(entry).as_abi)
        case "NewKmsContext":
            return CONFIG, config("beginContext", *announcement(entry).as_abi)
        case "NewKmsEpoch":
            return CONFIG, config("beginEpoch")
        case "KmsContextDestroyed":
            return CONFIG, config("destroyContext", said["kmsContextId"])
    raise AssertionError(entry["event"])


async def _install(place: Place) -> None:
    """Put our contracts where the recorded ones were, with what their constructors would have stored."""
    await put_code(place, CONFIG, "ProtocolConfig")
    await put_code(place, GENERATION, "KMSGeneration", CONFIG)
    await set_counters(place, GENERATION)
    first = announcement(EVENTS[0])
    config = partial(contracts.turn, "ProtocolConfig")
    limits = first.thresholds
    numbers = (limits.public, limits.user, limits.kms_gen, limits.mpc)
    await place.owner.do(
        (CONFIG, contracts.ethereum_context(FIRST_CONTEXT, first.committee)),
        (CONFIG, config("setThresholds", FIRST_CONTEXT, numbers)),
        (CONFIG, config("setEpoch", FIRST_CONTEXT, FIRST_EPOCH, contracts.EPOCH_ACTIVE)),
    )


@asynccontextmanager
async def play(binary: Path, folder: Path) -> AsyncIterator[Recorded]:
    """Play everything that was recorded, each transaction in a block of the recorded number."""
    async with open_place(binary, ETHEREUM["chain_id"], folder) as place:
        await _install(place)
        played, steps = Recorded(place), list[tuple[int, Any]]()
        for entry in EVENTS:
            if entry["name"] not in BEGUN_BY_A_REPLY:
                number = int(entry["log"]["blockNumber"], 16)
                steps.append((number, partial(played.turn, entry["name"], _owner_call(entry))))
            for answer in entry["answers"]:
                number = int(answer["proof"]["block_number"], 16)
                steps.append((number, partial(played.reply, entry["name"], answer)))
        for number, step in sorted(steps, key=lambda one: one[0]):
            await played.mine_until(number - 1)
            await step()
            for state in states_at(number):
                await played.collect_errors(state)
        yield played


def error_of(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded error without its text, which holds raw bytes of arguments."""
    return {"code": entry["eth_call_error"]["code"], "data": from_hex(entry["eth_call_error"]["data"])}
