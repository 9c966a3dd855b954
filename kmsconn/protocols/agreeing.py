"""Operations whose contract counts equal replies of the nodes, and acts once there are enough. Never asks a contract."""

from __future__ import annotations


class NeedsAgreement:
    """An operation of this kind; a mixin of ``port.Operation``, whose ``standing`` says whether the contract still waits for the nodes."""
