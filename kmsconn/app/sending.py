"""The transaction manager of one chain from the parts of a connector."""

from __future__ import annotations

from kmsconn.app.components import ChainContext, Components
from kmsconn.txmanager.manager import TxConfig, TxEndpoint, TxManager
from kmsconn.txmanager.wallet import Wallet


def txmanager_of(components: Components, chain_context: ChainContext) -> TxManager:
    """Return the transaction manager of one chain; it broadcasts only while no other process can have taken over."""
    wallet = components.sender
    assert isinstance(wallet, Wallet), "who sends nothing has none, and no manager"
    return TxManager(
        endpoint=TxEndpoint(
            chain_context.endpoint,
            chain_context.head,
            chain_context.name,
            chain_context.traces,
            components.membership.is_valid,
        ),
        journal=components.journal,
        wallet=wallet,
        profile=components.profile,
        wake=chain_context.wake_up,
        settings=components.settings,
        ports=components.ports,
        on_event=components.on_event,
        config=TxConfig(confirmations=chain_context.confirmations, replace_after=chain_context.replace_after),
        beat=components.heartbeats.part(f"txmanager {chain_context.name}", chain_context.name),
    )
