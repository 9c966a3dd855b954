"""Drills of everything else: ports, contracts, rights on the host chain, contexts, users, and the connector's monitoring port."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from kmsconn.emulator.contracts.ceremonies import FIRST_PREDECESSOR, announce
from kmsconn.emulator.contracts.decryption import DecryptionContract
from kmsconn.emulator.contracts.gateway_config import Committee, GatewayConfig
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.contracts.wallets import Mood, WalletContract
from kmsconn.emulator.dependencies import HOST_ID, EmulatedDependencies, address_for
from kmsconn.emulator.drills.drill import Drill, DrillBody, DrillError, DrillScene, End, Target, changing
from kmsconn.emulator.execution import EmulatedContract, Frame
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies, committee_of
from kmsconn.emulator.httpz.dependencies import HttpzDependencies
from kmsconn.emulator.key_ceremonies import announcement_of
from kmsconn.emulator.traffic import Traffic, naming
from kmsconn.ethereum.addresses import Address

UNKNOWN_CHAIN_ID = 424_242
"""A host chain that the Gateway lists and no configuration names."""
OTHER_CONTEXT, OTHER_EPOCH = CONTEXT - 1, EPOCH - 1
"""A context of other nodes, older than the present one, and its epoch."""
_STRANGERS = (61, 62, 63, 64)  # members that no emulation has


class Count(DrillBody, frozen=True):
    """How many requests are made, at once."""

    count: int = 1


class Requests(Count, frozen=True):
    """And of which form; ``any``: drawn by chance."""

    form: str = "any"


class WalletMood(DrillBody, frozen=True):
    """How the contract wallet answers ``isValidSignature``."""

    says: Mood = Mood.NO


class Flood(DrillBody, frozen=True):
    """How many connections, and how many requests on each, whose answers nobody reads."""

    connections: int = 64
    requests: int = 1_000
    path: str = "/metrics"


def contracts_of(dependencies: EmulatedDependencies) -> dict[str, tuple[str, Address]]:
    """Return the contracts by name: the chain that has it, and its address."""
    if isinstance(dependencies, FhevmDependencies):
        return {
            "decryption": ("gateway", dependencies.decryption.address),
            "gateway_config": ("gateway", dependencies.gateway_config.address),
            "protocol_config": ("ethereum", dependencies.protocol_config.address),
            "kms_generation": ("ethereum", dependencies.kms_generation.address),
            "acl": ("host", dependencies.acl.address),
        }
    assert isinstance(dependencies, HttpzDependencies)
    return {
        "decryption": ("gateway", dependencies.decryption.address),
        "key_manager": ("gateway", dependencies.keys.address),
        "httpz": ("gateway", dependencies.httpz.address),
    }


def _fhevm(scene: DrillScene) -> FhevmDependencies:
    if not isinstance(scene.dependencies, FhevmDependencies):
        raise DrillError(
            "route", "the first generation has no such thing", "start kmsconn emulate without --profile"
        )
    return scene.dependencies


def _refuse(scene: DrillScene, name: str, body: DrillBody) -> End:
    del body
    toggle_port = scene.dependencies.toggle_ports[name]
    toggle_port.shut()
    return toggle_port.open


def _no_code(scene: DrillScene, name: str, body: DrillBody) -> End:
    del body
    chain_name, where = contracts_of(scene.dependencies)[name]
    contracts: dict[Address, EmulatedContract] = scene.chain(chain_name).evm.contracts
    gone = contracts.pop(where, None)
    return _nothing if gone is None else partial(contracts.__setitem__, where, gone)


def _nothing() -> None:
    """End a drill that changed nothing."""


def _pause(scene: DrillScene, name: str, body: DrillBody) -> End:
    del body
    contract = scene.dependencies.decryption
    if name != "decryption" or not isinstance(contract, DecryptionContract):
        raise DrillError("route", f"{name} of this generation cannot be paused", "pause decryption of fhevm")

    def turn(*, paused: bool) -> None:
        scene.dependencies.gateway.evm.set_up(contract.address, partial(contract.pause, paused=paused))

    turn(paused=True)
    return partial(turn, paused=False)


def _deny(scene: DrillScene, name: str, body: DrillBody) -> End:
    del name, body
    return changing(_fhevm(scene).acl, "denies", True)


def _wallet(scene: DrillScene, name: str, body: WalletMood) -> End:
    del name
    dependencies, where = _fhevm(scene), address_for("wallet")
    wallet = dependencies.host.evm.contracts[where]
    assert isinstance(wallet, WalletContract)

    def turn(mood: Mood) -> None:
        dependencies.host.evm.set_up(where, lambda frame: wallet.set_mood(frame, mood))

    turn(body.says)
    return partial(turn, Mood.HONEST)


def _destroy_context(scene: DrillScene, name: str, body: DrillBody) -> None:
    del name, body
    dependencies = _fhevm(scene)
    protocol, gateway = dependencies.protocol_config, dependencies.gateway_config
    dependencies.ethereum.actors.act(protocol.address, lambda frame: protocol.destroy_context(frame, CONTEXT))
    dependencies.gateway.actors.act(gateway.address, lambda frame: gateway.destroy_context(frame, CONTEXT))


def _destroy_epoch(scene: DrillScene, name: str, body: DrillBody) -> None:
    del name, body
    dependencies = _fhevm(scene)
    protocol = dependencies.protocol_config
    dependencies.ethereum.actors.act(protocol.address, lambda frame: protocol.destroy_epoch(frame, EPOCH))


def _new_context(scene: DrillScene, name: str, body: DrillBody) -> None:
    del name, body
    dependencies = _fhevm(scene)
    protocol, announced = dependencies.protocol_config, announcement_of(dependencies.committee)

    def act(frame: Frame) -> None:
        if (
            frame.read("anchor", CONTEXT) is None
        ):  # by it a Core is told of the context that the new one follows
            announce(frame, CONTEXT, FIRST_PREDECESSOR, announced)
        protocol.begin_context(frame, announced)

    dependencies.ethereum.actors.act(protocol.address, act)


def _request(scene: DrillScene, name: str, body: Requests) -> None:
    del name
    ask = scene.users.any if body.form == "any" else scene.users.forms.get(body.form)
    if ask is None:
        raise DrillError(
            "form", f"no such form: {body.form!r}", f"there are: any, {', '.join(scene.users.forms)}"
        )
    _repeat(ask, body.count)


def _repeat(ask: Callable[[], object], count: int) -> None:
    for _ in range(count):
        ask()


def _unknown_chain(scene: DrillScene, name: str, body: Count) -> None:
    del name
    dependencies = _fhevm(scene)
    config, chains = dependencies.gateway_config, [HOST_ID, UNKNOWN_CHAIN_ID]
    dependencies.gateway.evm.set_up(config.address, lambda frame: config.set_host_chains(frame, chains))
    back = changing(scene.users, "host_chain", UNKNOWN_CHAIN_ID)
    _repeat(scene.users.public, body.count)
    back()


def _other_context(scene: DrillScene, name: str, body: Count) -> None:
    del name
    dependencies, users = _fhevm(scene), scene.users
    assert isinstance(users, Traffic)
    strangers = committee_of(_STRANGERS)
    config, protocol = dependencies.gateway_config, dependencies.protocol_config
    dependencies.gateway.evm.set_up(config.address, partial(_list_context, config, strangers))
    dependencies.ethereum.evm.set_up(protocol.address, partial(_make_context, protocol, strangers))
    back = changing(users, "extra_data", naming(OTHER_CONTEXT, OTHER_EPOCH))
    _repeat(users.public, body.count)
    back()


def _list_context(config: GatewayConfig, committee: Committee, frame: Frame) -> None:
    """Let the Gateway know a context of strangers, and keep the current one."""
    current = config.current(frame)
    own = config.committee(frame, current)
    config.set_context(frame, OTHER_CONTEXT, committee)
    config.set_context(frame, current, own)


def _make_context(protocol: ProtocolConfig, committee: Committee, frame: Frame) -> None:
    protocol.set_context(frame, OTHER_CONTEXT, committee)
    protocol.set_epoch(frame, OTHER_CONTEXT, OTHER_EPOCH)


def _flood(scene: DrillScene, name: str, body: Flood) -> End:
    del name
    if not scene.monitoring:
        raise DrillError(
            "route", "the connector's monitoring port is not known", "use the file of --write-config"
        )
    return scene.start(partial(flood, scene.monitoring, body.connections, body.requests, body.path))


async def flood(place: str, connections: int, requests: int, path: str) -> None:
    """Open connections, pipeline requests on each and read nothing, until cancelled; who refuses is left alone."""
    host, _, port = place.rpartition(":")
    asked = f"GET {path} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode() * requests
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(_pour, host, int(port), asked)


async def _pour(host: str, port: int, asked: bytes) -> None:
    try:
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(asked)
            await trio.sleep_forever()
    except (OSError, trio.BrokenResourceError):
        return


OTHER_DRILLS: tuple[Drill[Any], ...] = (
    Drill(
        "refuse", Target.ANY, DrillBody, _refuse,
        "Connections of the dependency break and new ones are refused.",
        "An alert names the dependency within 15 s, except one bucket beside another; work that needs it waits and resumes.",
    ),
    Drill(
        "no-code", Target.CONTRACT, DrillBody, _no_code,
        "The contract's address has no code.",
        "At start: exit status 3 with option and address. While running: within ten minutes a critical alert "
        "with both, within an hour for an ACL, whose requests are named at once; "
        "no request ends for it. Replies to a Decryption without code are sent again, at most once a minute each.",
    ),
    Drill(
        "pause", Target.CONTRACT, DrillBody, _pause,
        "The contract is paused: it accepts replies, but no requests.",
        "The connector sends replies to earlier requests.",
    ),
    Drill(
        "deny", Target.HOST, DrillBody, _deny,
        "The ACL denies every request.",
        "Requests wait without an alert, since rights may come late, with growing delays; see docs/outcomes.md, *Check*.",
    ),
    Drill(
        "wallet", Target.HOST, WalletMood, _wallet,
        "The users' contract wallet answers `isValidSignature` like this: no, revert, burn (all gas), short.",
        "The connector asks again for at most 10 minutes, then rejects the request; running out of gas is a refusal.",
    ),
    Drill(
        "destroy-context", Target.ETHEREUM, DrillBody, _destroy_context,
        "The first context is destroyed, on Ethereum and on the Gateway. The end of the drill does not restore it.",
        "The connector rejects its requests, and repeats the end until the Core has accepted it.",
    ),
    Drill(
        "destroy-epoch", Target.ETHEREUM, DrillBody, _destroy_epoch,
        "The first epoch is destroyed. The end of the drill does not restore it.",
        "The connector rejects its requests, and repeats the end until the Core has accepted it.",
    ),
    Drill(
        "new-context", Target.ETHEREUM, DrillBody, _new_context,
        "A context of the same committee is announced, which its nodes must confirm.",
        "Its Core is asked to take it; with `fail` on NewMpcContext it is rejected, and an alert says so. "
        "Without a key, as there is none without `--keys`, so is its epoch.",
    ),
    Drill(
        "request", Target.USERS, Requests, _request,
        "Users make requests, at once.",
        "The connector answers them.",
    ),
    Drill(
        "unknown-host-chain", Target.USERS, Count, _unknown_chain,
        "Users make public requests whose handles name a host chain that is not configured.",
        "The requests wait; health stays unchanged, one alert names the chain and the option.",
    ),
    Drill(
        "other-context", Target.USERS, Count, _other_context,
        "Users make public requests of a context without this node.",
        "The requests of each context share one query; an alert tells them only if the node is in no valid context.",
    ),
    Drill(
        "flood", Target.MONITORING, Flood, _flood,
        "The connector's monitoring port gets many connections with pipelined requests, whose answers stay unread.",
        "The port takes at most 64 connections, one request each; replies continue.",
    ),
)  # fmt: skip
