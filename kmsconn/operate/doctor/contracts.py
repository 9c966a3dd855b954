"""Probes of what this node has on the chains: its contracts, its account, and the newest requests for it. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import attrs

from kmsconn.chain.asking import ask, run_query_plan
from kmsconn.chain.logs import BlockHead
from kmsconn.chain.port import Rpc, RpcError
from kmsconn.config.networks import NETWORKS
from kmsconn.errors import Retryable, Undecodable, Unreachable, WrongContract
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, checksum, parse_address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.ids import id_name
from kmsconn.ethereum.transactions import in_ether
from kmsconn.model.requests import Content
from kmsconn.operate.doctor.chains import CheckedChain, logs_between, read_wei
from kmsconn.operate.doctor.probing import Diagnosis, Discovery, Probe, fault, ok, skipped, warning
from kmsconn.protocols.profile import ConfiguredContract, Profile, Registration, Subscription
from kmsconn.replies.fees import market_fees, read_history


@attrs.frozen
class CheckedContract:
    """A configured contract on its chain; the probe ``right`` finds whether it is the one that is meant, by its code and its kind."""

    configured: ConfiguredContract
    chain: CheckedChain
    right: Probe[bool] = attrs.field(init=False)

    @right.default
    def _right(self) -> Probe[bool]:
        one = self.configured
        checked = f"{self.option} {checksum(one.address)}: {one.kind} on {self.chain.name}"

        async def look() -> Sequence[Diagnosis] | Discovery[bool]:
            if not await _code_size(self.chain.rpc, one.address):
                return [fault(checked, f"has no code on chain {one.chain_id}", _where_it_is(self))]
            try:
                await ask(self.chain.rpc, one.identity)
            except WrongContract as error:
                # without the option and the address, which stand before it
                _, _, found = str(error).partition(": ")
                return [fault(checked, found or str(error), _where_it_is(self))]
            return Discovery(True, [ok(checked, "is there")])

        return Probe(checked, look, (self.chain.usable,))

    @property
    def option(self) -> str:
        """The option that names it."""
        return self.configured.option.removesuffix(".address")


async def _code_size(rpc: Rpc, address: Address) -> int:
    try:
        return len(from_hex(await rpc.call("eth_getCode", to_hex(address), "latest")))
    except (RpcError, ValueError) as error:
        raise Unreachable(f"the node's answer to eth_getCode cannot be read: {error}") from error


def _where_it_is(contract: CheckedContract) -> str:
    address, kind = contract.configured.address, contract.configured.kind
    name = f"name the {kind} of this network in {contract.option}"
    if known := networks_with(address):
        return (
            f"{checksum(address)} is the {' and the '.join(known)}: {name}, or the chain ids of that network"
        )
    return f"{name}, or correct the chain id"


def networks_with(address: Address) -> list[str]:
    """Return which contracts of which known networks have an address: ``Decryption of testnet``."""
    return [
        f"{kind} of {network.name}"
        for network in NETWORKS.values()
        for kind, field in _KINDS.items()
        if parse_address(getattr(network, field)) == address
    ]


_KINDS = {
    "Decryption": "decryption",
    "GatewayConfig": "gateway_config",
    "ProtocolConfig": "protocol_config",
    "KMSGeneration": "kms_generation",
    "KMSVerifier": "kms_verifier",
}


def domain_probe(contract: CheckedContract) -> Probe[None]:
    """Return the probe that compares a contract's EIP-712 domain with the configured one."""
    checked = f"{contract.option}: EIP-712 domain of {contract.configured.kind}"

    async def look() -> Sequence[Diagnosis]:
        assert contract.configured.domain is not None, "only of contracts for which something is signed"
        try:
            told = await ask(contract.chain.rpc, contract.configured.domain)
        except WrongContract as error:
            found, _, remedy = str(error).rpartition("; ")
            return [fault(checked, found, remedy)]
        if not told:
            return [skipped(checked, "the contract does not tell its domain (EIP-5267)")]
        return [ok(checked, "as configured")]

    return Probe(checked, look, (contract.chain.usable, contract.right))


REPLY_GAS = 333_000
"""Gas of the dearest reply seen on the real contracts (fhevm-0.14.md, annex E.4), where no reply could be estimated."""
FEW_REPLIES = 1_000
"""Replies left, below which an account should be filled: minutes of a busy gateway."""
FEW_KEY_REPLIES = 10
"""Likewise for key management, of which there are some replies a year."""


def registration_probe(
    profile: Profile, place: int, chain: CheckedChain, tx_sender: Probe[Address], right: Probe[bool]
) -> Probe[Address]:
    """Return the probe of one registry of nodes: whether the tx sender is a node of its current context, and who signs for it.

    ``place`` is that of the registry in the profile's list; ``right``: its contract is there.
    """
    checked = f"{chain.name}: registration of the tx sender"

    async def look() -> Discovery[Address]:
        found = await run_query_plan(chain.rpc, profile.registrations(tx_sender.value)[place][1])
        line = judge_registration(checked, tx_sender.value, found)
        return Discovery(None if found.signer == ZERO_ADDRESS else found.signer, [line])

    return Probe(checked, look, (tx_sender, chain.usable, right))


def judge_registration(checked: str, tx_sender: Address, found: Registration) -> Diagnosis:
    """Judge what a registry says of a tx sender."""
    context = "" if found.context_id is None else f" in the current {id_name(found.context_id)}"
    if found.signer == ZERO_ADDRESS:
        missing = f"{found.registry} knows no node with the tx sender {checksum(tx_sender)}{context}"
        remedy = "configure the key of the node that was registered, or have this tx sender registered"
        return fault(checked, missing, remedy)
    return ok(checked, f"{checksum(tx_sender)}, signer {checksum(found.signer)}{context}")


def balance_probe(
    chain: CheckedChain, tx_sender: Probe[Address], gas: Probe[int] | None, *, few: int
) -> Probe[None]:
    """Return the probe of the account's balance on a chain, as replies that it pays for; ``gas``: of one, where that is estimated."""
    checked = f"{chain.name}: balance of the tx sender"

    async def look() -> Sequence[Diagnosis]:
        account = to_hex(tx_sender.value)
        balance = await read_wei(chain.rpc, "eth_getBalance", account, "latest")
        price = await _price(chain.rpc, chain.head.value)
        of_reply = REPLY_GAS if gas is None or gas.missing else gas.value
        return [judge_balance(checked, tx_sender.value, balance, price, of_reply, few=few)]

    uses = () if gas is None else (gas,)
    return Probe(checked, look, (tx_sender, chain.usable, chain.head), uses, limit=60.0)


async def _price(rpc: Rpc, head: BlockHead) -> int:
    """Return what a unit of gas costs now. Raises Unreachable."""
    if head.base_fee is None:
        return await read_wei(rpc, "eth_gasPrice")
    try:
        history = await rpc.call("eth_feeHistory", "0xa", "latest", [20])
        priority = read_history(history)
    except (RpcError, ValueError, Retryable):
        priority = 1
    return market_fees(head.base_fee, priority).needed


def judge_balance(
    checked: str, account: Address, balance: int, price: int, gas: int, *, few: int
) -> Diagnosis:
    """Judge a balance by the replies that it pays for at the present price."""
    left, remedy = balance // max(1, gas * price), f"send funds to {checksum(account)}"
    has = f"{checksum(account)} has {in_ether(balance)}"
    if not left:
        return fault(checked, f"{has}, a reply costs {in_ether(gas * price)}: none can be sent", remedy)
    found = f"{has}: {left} replies of {gas} gas at the present price"
    return warning(checked, found, remedy) if left < few else ok(checked, found)


NEWEST = "newest decryption requests"
ENOUGH = 8  # requests
READS = 20  # of eth_getLogs, each of get_logs_batch_size blocks


RecentRequests = tuple[Content, ...]
"""The newest first."""


def recent_probe(
    profile: Profile, subscription: Subscription, chain: CheckedChain, width: int, right: Probe[bool]
) -> Probe[RecentRequests]:
    """Return the probe that looks for requests backwards from the newest block, ``width`` blocks at once.

    ``right``: their contract is there.
    """

    async def look() -> Discovery[RecentRequests]:
        head = chain.head.value.number
        found, last = await _find(profile, subscription, chain, width, head)
        if not found:
            missing = f"there was no decryption request in the last {head - last} blocks"
            return Discovery(None, [skipped(NEWEST, missing)], missing)
        return Discovery(found, [ok(NEWEST, f"{len(found)} in the last {head - last} blocks")])

    return Probe(NEWEST, look, (chain.usable, chain.head, right), limit=30.0)


async def _find(
    profile: Profile, where: Subscription, chain: CheckedChain, width: int, last: int
) -> tuple[RecentRequests, int]:
    """Return the newest requests, and the last block that was not read for them; what cannot be read is the connector's own matter."""
    contents: dict[int, Content] = {}
    for _ in range(READS):
        if last < 0 or len(contents) >= ENOUGH:
            break
        first = max(0, last - width + 1)
        try:
            logs = await logs_between(chain.rpc, where.contract, where.topics, first, last)
        except RpcError:
            width = max(1, width // 2)
            continue
        for log in reversed(logs):
            with suppress(Undecodable):
                if (content := profile.decode(log)) is not None:
                    contents.setdefault(content.id, content)
        last = first - 1
    return tuple(contents.values())[:ENOUGH], last
