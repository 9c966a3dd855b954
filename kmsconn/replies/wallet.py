"""The account that sends: signs transactions, with a key in memory or in AWS KMS, whose secret it never has. Knows no chain.

The signer may be far away (a key service), hence async and for many digests at once; a key in memory signs them one by one.
KMS signs digests as DER (r, s) with s in either half and without a recovery id: s is made low (EIP-2) and the recovery id is the one
with which the key's own address comes out. Source: httpz-rc7.md 5.3.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import attrs
import trio

from kmsconn.config.description import AwsKmsKey, Secret
from kmsconn.config.settings import Settings
from kmsconn.errors import Misconfigured, Retryable, StartRefused, Unreachable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, address_of_key, recoverable
from kmsconn.ethereum.transactions import Transaction
from kmsconn.extras import require_extra
from kmsconn.model.events import AlertCleared, AlertRaised, OnEvent
from kmsconn.transport.aws import open_aws
from kmsconn.transport.proxies import NO_PROXIES, Proxies

BREATH = 32  # signatures of a key in memory between two checkpoints: some two milliseconds
Signed = tuple[bytes, bytes]
"""The raw bytes of a transaction and their hash."""


SignDigests = Callable[[Sequence[bytes]], Awaitable[list[bytes]]]
"""Signs digests of 32 bytes in their order: r ‖ s ‖ v, v 27 or 28, low s. Fewer come back where the key failed on the way.

Raises Retryable when it failed at the first. Repeating: signs anew, perhaps with other bytes.
"""


async def sign_here(key: PrivateKey, digests: Sequence[bytes]) -> list[bytes]:
    """Sign all with a key of this process, with the same bytes every time (RFC 6979)."""
    signatures = []
    for start in range(0, len(digests), BREATH):
        if start:
            await trio.lowlevel.checkpoint()
        signatures += [key.sign(digest) for digest in digests[start : start + BREATH]]
    return signatures


@attrs.frozen
class Wallet:
    """The node's transaction sender: the account that sends, and what signs for it, here or elsewhere."""

    address: Address
    _sign: SignDigests = attrs.field(repr=False)

    @classmethod
    def from_hex(cls, secret: Secret) -> Wallet:
        """Return the wallet of a key written as hex digits. Raises ValueError, without the text."""
        key = PrivateKey.parse(secret.reveal())
        return cls(key.address, partial(sign_here, key))

    async def sign(self, transactions: Sequence[Transaction]) -> list[Signed]:
        """Sign in order; return raw bytes and hash of each, of fewer where the key failed on the way.

        Raises Retryable when it failed at the first.
        """
        signatures = await self._sign([transaction.signing_digest for transaction in transactions])
        raws = [one.signed(signature) for one, signature in zip(transactions, signatures, strict=False)]
        return [(raw, keccak256(raw)) for raw in raws]


@asynccontextmanager
async def open_tx_sender(settings: Settings, on_event: OnEvent) -> AsyncIterator[Wallet | Address]:
    """Open the wallet that the settings name, and no other; for who sends nothing yield no more than the address.

    Raises as ``open_wallet``.
    """
    named = settings.wallet.tx_sender_address
    if not settings.sends and named is not None:
        yield named
        return
    async with open_wallet(settings, on_event) as wallet:
        yield wallet if settings.sends else wallet.address


@asynccontextmanager
async def open_wallet(settings: Settings, on_event: OnEvent) -> AsyncIterator[Wallet]:
    """Open the wallet that the settings name, and no other.

    Raises StartRefused when it cannot be used, or is not the account that ``tx_sender_address`` names.
    """
    named = settings.wallet.tx_sender_address
    if settings.wallet.private_key is not None:
        wallet = Wallet.from_hex(settings.wallet.private_key)
        _refuse_another(wallet.address, named, "private_key")
        yield wallet
    elif settings.wallet.aws_kms is not None:
        async with open_aws_kms(settings.wallet.aws_kms, on_event, settings.proxies) as signer:
            _refuse_another(signer.address, named, f"the AWS KMS key {signer.key_id}")
            yield Wallet(signer.address, signer.sign)


def _refuse_another(address: Address, named: Address | None, what: str) -> None:
    """Raise StartRefused if the settings name another account than that of the wallet."""
    if named is not None and named != address:
        found = f"tx_sender_address is {checksum(named)}, and the wallet is {checksum(address)} by {what}"
        raise StartRefused(f"{found}: name the wallet's address, or leave it out")


NAME: Final = "wallet"
UNREACHABLE: Final = "unreachable"
SIGNATURES_AT_ONCE: Final = (
    16  # signatures on their way: KMS takes some tens of ms for each, and hundreds a second
)
SIGNING: Final = 10.0  # seconds for the signatures of one call
ASKING: Final = 5.0  # seconds for the public key
STARTING: Final = 20.0  # seconds that a start waits for a KMS which does not answer
AGAIN: Final = 1.0
FAILED: Final = "AWS KMS initialization failed"

_T = TypeVar("_T")
_SPEC, _USAGE, _ALGORITHM = "ECC_SECG_P256K1", "SIGN_VERIFY", "ECDSA_SHA_256"


class Service(Protocol):
    """AWS KMS, by the names of its operations."""

    async def ask(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Call an operation. Raises Retryable."""
        ...


@attrs.frozen
class AwsKmsSigner:
    """A key in AWS KMS; ``address`` is its account."""

    address: Address
    key_id: str
    _service: Service
    _places: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(SIGNATURES_AT_ONCE), repr=False
    )
    """As many as connections, for all transaction managers together: a pool that is waited for in the SDK's client may leak places."""

    async def sign(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign digests, SIGNATURES_AT_ONCE at a time, within SIGNING seconds; the signatures of the first ones where KMS fails on the way.

        Raises Retryable when the first has none: Misconfigured where another key signed. Cancellation and Repeating: signs anew.
        """
        waiting, signed, failures = iter(enumerate(digests)), dict[int, bytes](), list[Retryable]()

        async def work(waiting: Iterator[tuple[int, bytes]]) -> None:
            for index, digest in waiting:
                try:
                    signed[index] = await self._sign(digest)
                except Retryable as error:
                    failures.append(error)
                if failures:  # what is on its way is waited for: lower nonces may be among it
                    return

        with trio.move_on_after(SIGNING):
            async with trio.open_nursery() as nursery:
                for _ in range(min(SIGNATURES_AT_ONCE, len(digests))):
                    nursery.start_soon(work, waiting)
        first = list[bytes]()
        while len(first) in signed:
            first.append(signed[len(first)])
        if digests and not first:
            raise failures[0] if failures else Unreachable(f"AWS KMS: no signature within {SIGNING:g} s")
        return first

    async def _sign(self, digest: bytes) -> bytes:
        async with self._places:
            answer = await self._service.ask(
                "sign", KeyId=self.key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHM
            )
        signature = recoverable(digest, *_read_der(answer), self.address)
        if signature is None:
            raise Misconfigured(f"AWS KMS: {self.key_id} signed with another key than that of the start")
        return signature


def _read_der(answer: Mapping[str, Any]) -> tuple[int, int]:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    try:
        return decode_dss_signature(answer["Signature"])
    except (KeyError, ValueError, TypeError) as error:
        raise Unreachable("AWS KMS: its answer holds no DER signature") from error


@asynccontextmanager
async def open_aws_kms(
    key: AwsKmsKey, on_event: OnEvent, proxies: Proxies = NO_PROXIES
) -> AsyncIterator[AwsKmsSigner]:
    """Ask AWS KMS for a key and return it as a signer.

    Raises StartRefused where the key cannot be used, its SDK is not installed, or KMS is silent for STARTING seconds: without its
    address nothing can begin.
    """
    require_extra("aws", "aws_kms_config")
    place = partial(open_aws, region=key.region, endpoint=key.endpoint, proxies=proxies)
    open_client = partial(place, "kms", connections=SIGNATURES_AT_ONCE)
    async with AsyncExitStack() as stack:
        try:
            service = await _patiently(lambda: stack.enter_async_context(open_client()), on_event)
            signer = await find_signer(service, key.key_id, on_event)
        except Misconfigured as error:
            raise StartRefused(f"{FAILED}: {error}") from error
        yield signer


async def find_signer(service: Service, key_id: str, on_event: OnEvent) -> AwsKmsSigner:
    """Return the signer of a key. Raises Misconfigured where it cannot be used, StartRefused where KMS stays silent."""

    async def ask() -> Address:
        with trio.move_on_after(ASKING):
            return read_public_key(await service.ask("get_public_key", KeyId=key_id))
        raise Unreachable(f"AWS KMS: no public key within {ASKING:g} s")

    return AwsKmsSigner(await _patiently(ask, on_event), key_id, service)


async def _patiently(ask: Callable[[], Awaitable[_T]], on_event: OnEvent) -> _T:
    """Ask until there is an answer. Raises StartRefused after STARTING seconds of silence, Misconfigured as ``ask`` does."""
    began, told = trio.current_time(), False
    while True:
        try:
            found = await ask()
            break
        except Misconfigured:
            raise
        except Retryable as error:
            if trio.current_time() - began > STARTING:
                raise StartRefused(f"{FAILED}: {error}") from error
            if not told:
                on_event(AlertRaised(NAME, UNREACHABLE, f"has not answered yet: {error}"))
            told = True
        await trio.sleep(AGAIN)
    if told:
        on_event(AlertCleared(NAME, UNREACHABLE))
    return found


def read_public_key(answer: Mapping[str, Any]) -> Address:
    """Return the account of the key that GetPublicKey answers. Raises Misconfigured for a key that cannot sign transactions."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    spec = answer.get("KeySpec") or answer.get("CustomerMasterKeySpec")
    if spec != _SPEC or answer.get("KeyUsage") != _USAGE:
        raise Misconfigured(
            f"AWS KMS: the key is {spec} for {answer.get('KeyUsage')}, not {_SPEC} for {_USAGE}"
        )
    try:
        key = load_der_public_key(answer["PublicKey"])
    except (KeyError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misconfigured("AWS KMS: its answer holds no public key") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256K1):
        raise Misconfigured("AWS KMS: its public key is not on secp256k1")
    return address_of_key(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
