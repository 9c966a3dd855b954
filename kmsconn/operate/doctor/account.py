"""Probes of the node's account: who it is in the current context, and for how many replies its balance lasts. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence

from kmsconn.chain.asking import run_query_plan
from kmsconn.chain.logs import BlockHead
from kmsconn.chain.port import Rpc, RpcError
from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import id_name
from kmsconn.operate.doctor import nodes
from kmsconn.operate.doctor.chains import CheckedChain
from kmsconn.operate.doctor.diagnosis import Diagnosis, fault, ok, warning
from kmsconn.operate.doctor.probing import Discovery, Probe
from kmsconn.protocols.profile import Profile, Registration
from kmsconn.replies.fees import in_ether, market_fees, read_history

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
        return fault(
            checked,
            f"{found.registry} knows no node with the tx sender {checksum(tx_sender)}{context}",
            "configure the key of the node that was registered, or have this tx sender registered",
        )
    return ok(checked, f"{checksum(tx_sender)}, signer {checksum(found.signer)}{context}")


def balance_probe(
    chain: CheckedChain, tx_sender: Probe[Address], gas: Probe[int] | None, *, few: int
) -> Probe[None]:
    """Return the probe of the account's balance on a chain, as replies that it pays for; ``gas``: of one, where that is estimated."""
    checked = f"{chain.name}: balance of the tx sender"

    async def look() -> Sequence[Diagnosis]:
        account = to_hex(tx_sender.value)
        balance = await nodes.read_wei(chain.rpc, "eth_getBalance", account, "latest")
        price = await _price(chain.rpc, chain.head.value)
        of_reply = REPLY_GAS if gas is None or gas.missing else gas.value
        return [judge_balance(checked, tx_sender.value, balance, price, of_reply, few=few)]

    uses = () if gas is None else (gas,)
    return Probe(checked, look, (tx_sender, chain.usable, chain.head), uses, limit=60.0)


async def _price(rpc: Rpc, head: BlockHead) -> int:
    """Return what a unit of gas costs now. Raises Unreachable."""
    if head.base_fee is None:
        return await nodes.read_wei(rpc, "eth_gasPrice")
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
    left = balance // max(1, gas * price)
    has = f"{checksum(account)} has {in_ether(balance)}"
    if not left:
        return fault(
            checked,
            f"{has}, a reply costs {in_ether(gas * price)}: none can be sent",
            f"send funds to {checksum(account)}",
        )
    found = f"{has}: {left} replies of {gas} gas at the present price"
    if left < few:
        return warning(checked, found, f"send funds to {checksum(account)}")
    return ok(checked, found)
