"""Drills of everything else: ports, contracts, rights on the host chain, contexts, users, and the connector's monitoring port."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from kmsconn.emulator.contracts.acl import Mood, WalletContract
from kmsconn.emulator.contracts.decryption import DecryptionContract
from kmsconn.emulator.contracts.gateway_config import Committee, GatewayConfig
from kmsconn.emulator.contracts.protocol_config import FIRST_PREDECESSOR, announce
from kmsconn.emulator.dependencies import HOST_ID, EmulatedDependencies, address_for
from kmsconn.emulator.drills.drill import Drill, DrillError, DrillScene, End, Target, changing
from kmsconn.emulator.execution import EmulatedContract, Frame
from kmsconn.emulator.fhevm_dependencies import (
    CONTEXT,
    EPOCH,
    FhevmDependencies,
    Traffic,
    committee_of,
    naming,
)
from kmsconn.emulator.httpz.dependencies import HttpzDependencies
from kmsconn.emulator.key_ceremonies import announcement_of
from kmsconn.ethereum.addresses import Address

UNKNOWN_CHAIN_ID = 424_242
"""A host chain that the Gateway lists and no configuration names."""
OTHER_CONTEXT, OTHER_EPOCH = CONTEXT - 1, EPOCH - 1
"""A context of other nodes, older than the present one, and its epoch."""
_STRANGERS = (61, 62, 63, 64)  # members that no emulation has


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
        remedy = "start kmsconn emulate without --profile"
        raise DrillError("route", "the first generation has no such thing", remedy)
    return scene.dependencies


class RefusedConnections(Drill, frozen=True):
    """Connections of the dependency break and new ones are refused.

    An alert names the dependency within 15 s, except one bucket beside another; work that needs it waits and resumes.
    """

    name, target = "refuse", Target.ANY

    def put_on(self, scene: DrillScene, name: str) -> End:
        toggle_port = scene.dependencies.toggle_ports[name]
        toggle_port.shut()
        return toggle_port.open


class NoCode(Drill, frozen=True):
    """The contract's address has no code.

    At start: exit status 3 with option and address. While running: within ten minutes a critical alert with both, within an hour
    for an ACL, whose requests are named at once; no request ends for it. Replies to a Decryption without code are sent again, at
    most once a minute each.
    """

    name, target = "no-code", Target.CONTRACT

    def put_on(self, scene: DrillScene, name: str) -> End:
        chain_name, where = contracts_of(scene.dependencies)[name]
        contracts: dict[Address, EmulatedContract] = scene.chain(chain_name).evm.contracts
        gone = contracts.pop(where, None)
        return (lambda: None) if gone is None else partial(contracts.__setitem__, where, gone)


class PausedContract(Drill, frozen=True):
    """The contract is paused: it accepts replies, but no requests.

    The connector sends replies to earlier requests.
    """

    name, target = "pause", Target.CONTRACT

    def put_on(self, scene: DrillScene, name: str) -> End:
        contract = scene.dependencies.decryption
        if name != "decryption" or not isinstance(contract, DecryptionContract):
            reason = f"{name} of this generation cannot be paused"
            raise DrillError("route", reason, "pause decryption of fhevm")

        def turn(*, paused: bool) -> None:
            scene.dependencies.gateway.evm.set_up(contract.address, contract.pause, paused=paused)

        turn(paused=True)
        return partial(turn, paused=False)


class DenyingAcl(Drill, frozen=True):
    """The ACL denies every request.

    Requests wait without an alert, since rights may come late, with growing delays; see docs/outcomes.md, *Check*.
    """

    name, target = "deny", Target.HOST

    def put_on(self, scene: DrillScene, _name: str) -> End:
        return changing(_fhevm(scene).acl, "denies", True)


class OtherWalletMood(Drill, frozen=True):
    """The users' contract wallet answers `isValidSignature` like this: no, revert, burn (all gas), short.

    The connector asks again for at most 10 minutes, then rejects the request; running out of gas is a refusal.
    """

    name, target = "wallet", Target.HOST
    says: Mood = Mood.NO

    def put_on(self, scene: DrillScene, _name: str) -> End:
        dependencies, where = _fhevm(scene), address_for("wallet")
        wallet = dependencies.host.evm.contracts[where]
        assert isinstance(wallet, WalletContract)

        def turn(mood: Mood) -> None:
            dependencies.host.evm.set_up(where, wallet.set_mood, mood)

        turn(self.says)
        return partial(turn, Mood.HONEST)


class DestroyContext(Drill, frozen=True):
    """The first context is destroyed, on Ethereum and on the Gateway. The end of the drill does not restore it.

    The connector rejects its requests, and repeats the end until the Core has accepted it.
    """

    name, target = "destroy-context", Target.ETHEREUM

    def put_on(self, scene: DrillScene, _name: str) -> None:
        dependencies = _fhevm(scene)
        protocol, gateway = dependencies.protocol_config, dependencies.gateway_config
        act = dependencies.ethereum.actors.act
        act(protocol.address, lambda frame: protocol.destroy_context(frame, CONTEXT))
        act = dependencies.gateway.actors.act
        act(gateway.address, lambda frame: gateway.destroy_context(frame, CONTEXT))


class DestroyEpoch(Drill, frozen=True):
    """The first epoch is destroyed. The end of the drill does not restore it.

    The connector rejects its requests, and repeats the end until the Core has accepted it.
    """

    name, target = "destroy-epoch", Target.ETHEREUM

    def put_on(self, scene: DrillScene, _name: str) -> None:
        protocol, act = _fhevm(scene).protocol_config, _fhevm(scene).ethereum.actors.act
        act(protocol.address, lambda frame: protocol.destroy_epoch(frame, EPOCH))


class AnnounceContext(Drill, frozen=True):
    """A context of the same committee is announced, which its nodes must confirm.

    Its Core is asked to take it; with `fail` on NewMpcContext it is rejected, and an alert says so. Without a key, as there is
    none without `--keys`, so is its epoch.
    """

    name, target = "new-context", Target.ETHEREUM

    def put_on(self, scene: DrillScene, _name: str) -> None:
        dependencies = _fhevm(scene)
        protocol, announced = dependencies.protocol_config, announcement_of(dependencies.committee)

        def act(frame: Frame) -> None:
            if frame.read("anchor", CONTEXT) is None:
                # by it a Core is told of the context that the new one follows
                announce(frame, CONTEXT, FIRST_PREDECESSOR, announced)
            protocol.begin_context(frame, announced)

        dependencies.ethereum.actors.act(protocol.address, act)


class UsersDrill(Drill, frozen=True):
    """Requests of users, this many at once."""

    target = Target.USERS
    count: int = 1

    def ask(self, ask: Callable[[], object]) -> None:
        """Make them."""
        for _ in range(self.count):
            ask()


class MoreRequests(UsersDrill, frozen=True):
    """Users make requests, at once.

    The connector answers them.
    """

    name = "request"
    form: str = "any"  # drawn by chance

    def put_on(self, scene: DrillScene, _name: str) -> None:
        ask = scene.users.any if self.form == "any" else scene.users.forms.get(self.form)
        if ask is None:
            remedy = f"there are: any, {', '.join(scene.users.forms)}"
            raise DrillError("form", f"no such form: {self.form!r}", remedy)
        self.ask(ask)


class UnknownHostChain(UsersDrill, frozen=True):
    """Users make public requests whose handles name a host chain that is not configured.

    The requests wait; health stays unchanged, one alert names the chain and the option.
    """

    name = "unknown-host-chain"

    def put_on(self, scene: DrillScene, _name: str) -> None:
        dependencies = _fhevm(scene)
        config, chains = dependencies.gateway_config, [HOST_ID, UNKNOWN_CHAIN_ID]
        dependencies.gateway.evm.set_up(config.address, config.set_host_chains, chains)
        back = changing(scene.users, "host_chain", UNKNOWN_CHAIN_ID)
        self.ask(scene.users.public)
        back()


class OtherContext(UsersDrill, frozen=True):
    """Users make public requests of a context without this node.

    The requests of each context share one query; an alert tells them only if the node is in no valid context.
    """

    name = "other-context"

    def put_on(self, scene: DrillScene, _name: str) -> None:
        dependencies, users = _fhevm(scene), scene.users
        assert isinstance(users, Traffic)
        strangers = committee_of(_STRANGERS)
        config, protocol = dependencies.gateway_config, dependencies.protocol_config
        dependencies.gateway.evm.set_up(config.address, partial(_list_context, config, strangers))
        ethereum = dependencies.ethereum.evm
        ethereum.set_up(protocol.address, protocol.set_context, OTHER_CONTEXT, strangers)
        ethereum.set_up(protocol.address, protocol.set_epoch, OTHER_CONTEXT, OTHER_EPOCH)
        back = changing(users, "extra_data", naming(OTHER_CONTEXT, OTHER_EPOCH))
        self.ask(users.public)
        back()


def _list_context(config: GatewayConfig, committee: Committee, frame: Frame) -> None:
    """Let the Gateway know a context of strangers, and keep the current one."""
    current = config.current(frame)
    own = config.committee(frame, current)
    config.set_context(frame, OTHER_CONTEXT, committee)
    config.set_context(frame, current, own)


class Flood(Drill, frozen=True):
    """The connector's monitoring port gets many connections with pipelined requests, whose answers stay unread.

    The port takes at most 64 connections, one request each; replies continue.
    """

    name, target = "flood", Target.MONITORING
    connections: int = 64
    requests: int = 1_000
    path: str = "/metrics"

    def put_on(self, scene: DrillScene, _name: str) -> End:
        if not scene.monitoring or scene.start is None:
            reason = "the connector's monitoring port is not known"
            raise DrillError("route", reason, "use the file of --write-config")
        return scene.start(partial(flood, scene.monitoring, self.connections, self.requests, self.path))


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


OTHER_DRILLS: tuple[type[Drill], ...] = (
    RefusedConnections, NoCode, PausedContract, DenyingAcl, OtherWalletMood, DestroyContext, DestroyEpoch, AnnounceContext,
    MoreRequests, UnknownHostChain, OtherContext, Flood,
)  # fmt: skip
