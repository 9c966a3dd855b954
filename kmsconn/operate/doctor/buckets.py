"""Probes of the coprocessors' buckets: whether each may be asked, answers, and holds what the newest request names. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs
import trio

from kmsconn.chain.asking import ask
from kmsconn.ciphertexts.budget import ByteBudget, Lease
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.ciphertexts.places import BucketPolicy, by_handle
from kmsconn.ciphertexts.registry import Find
from kmsconn.ciphertexts.sources import Sources
from kmsconn.config.settings import Settings
from kmsconn.errors import KmsconnError, Misconfigured
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from kmsconn.operate.doctor.chains import CheckedChain
from kmsconn.operate.doctor.contracts import RecentRequests
from kmsconn.operate.doctor.probing import CheckStatus, Diagnosis, Discovery, Probe, fault, ok, warning
from kmsconn.protocols.profile import Coprocessor, Profile
from kmsconn.transport.http import HttpClient
from kmsconn.transport.ports import Ports
from kmsconn.transport.urls import show_origin
from kmsconn.transport.waiting import together

CHECKED = "coprocessors"
MOST_COPROCESSORS = 64
BUCKET_LIMIT = 30.0  # seconds for one ciphertext
_OTHER_COPROCESSORS = (
    "ask the coprocessor's operator; the connector uses the other coprocessors' buckets meanwhile"
)


@attrs.frozen
class BucketAccess:
    """How buckets are asked: as the connector does it, under the operator's policy."""

    http: HttpClient
    sources: Callable[[Find], Sources]
    policy: BucketPolicy
    ports: Ports
    settings: Settings

    async def fetch(self, buckets: Mapping[Address, str], reference: CiphertextReference) -> Ciphertext:
        """Fetch a ciphertext from the buckets, by coprocessor, that it has of these; compare its digest. Raises RequestError."""

        async def find(tx_senders: Sequence[Address]) -> list[str]:
            await trio.lowlevel.checkpoint()
            return [buckets[one] for one in tx_senders if one in buckets]

        most = self.settings.ciphertexts.max_ciphertext_size
        fetcher = Fetcher(self.sources(find), self.policy, self.ports.offload, most)
        with Lease(ByteBudget(most)) as lease:
            return await fetcher.fetch(reference, lease)

    async def answers(self, bucket: str) -> int:
        """Ask a bucket for an object that is not there, and return the HTTP status. Raises RequestError."""
        return (await self.http.head(by_handle(bucket, bytes(32)))).status


def registry_probe(
    profile: Profile, chain: CheckedChain, right: Probe[bool]
) -> Probe[tuple[Coprocessor, ...]]:
    """Return the probe of the registry of coprocessors."""

    async def look() -> Discovery[tuple[Coprocessor, ...]]:
        registry = profile.registry
        threshold = await ask(chain.rpc, registry.coprocessor_threshold()) if profile.has_attestations else 1
        senders = await ask(chain.rpc, registry.coprocessor_senders())
        asked = map(registry.coprocessor, senders[:MOST_COPROCESSORS])
        several = await together([partial(ask, chain.rpc, one) for one in asked])
        found = tuple(several) if any(one.bucket for one in several) else None
        return Discovery(found, [judge_registry(several, threshold)])

    return Probe(CHECKED, look, (chain.usable, right))


def judge_registry(coprocessors: Sequence[Coprocessor], threshold: int) -> Diagnosis:
    """Judge whom the registry names."""
    remedy = (
        "check that gateway_config_contract is that of this network; else its owner must mend the registry"
    )
    with_bucket = [one for one in coprocessors if one.bucket]
    if not threshold:
        return fault(CHECKED, "the quorum threshold is 0: no ciphertext could be trusted", remedy)
    if not with_bucket:
        return fault(CHECKED, f"none of {len(coprocessors)} has a bucket registered", remedy)
    if len(with_bucket) < threshold:
        return warning(CHECKED, f"{len(with_bucket)} have a bucket, a quorum is {threshold}", remedy)
    found = f"{len(coprocessors)} registered, {len(with_bucket)} with a bucket, quorum {threshold}"
    return ok(CHECKED, found)


def buckets_probe(
    access: BucketAccess, coprocessors: Probe[tuple[Coprocessor, ...]], recent: Probe[RecentRequests]
) -> Probe[None]:
    """Return the probe of every bucket: each is its own line, and one that hangs holds up none."""

    async def look() -> Sequence[Diagnosis]:
        contents = () if recent.missing else recent.value
        reference = next((one for content in contents for one in content.references), None)
        known = [one for one in coprocessors.value if one.bucket]
        return judge_together(await together([partial(_look_at, access, one, reference) for one in known]))

    return Probe("buckets", look, (coprocessors,), (recent,), limit=BUCKET_LIMIT + 45.0)


async def _look_at(
    access: BucketAccess, coprocessor: Coprocessor, reference: CiphertextReference | None
) -> Diagnosis:
    checked = f"bucket {show_origin(coprocessor.bucket)} of coprocessor {checksum(coprocessor.tx_sender)}"
    try:
        with trio.move_on_after(BUCKET_LIMIT):
            access.policy.check(coprocessor.bucket)
            if reference is None or coprocessor.tx_sender not in reference.coprocessors:
                return judge_status(checked, await access.answers(coprocessor.bucket))
            only = {coprocessor.tx_sender: coprocessor.bucket}
            size = len((await access.fetch(only, reference)).body)
            return ok(checked, f"ciphertext {reference.handle.hex()[:16]}…, {size} bytes, the chain's digest")
    except Misconfigured as error:
        return fault(checked, str(error), _allow(str(error)))
    except KmsconnError as error:
        return fault(checked, str(error), _OTHER_COPROCESSORS)
    return fault(checked, f"no ciphertext within {BUCKET_LIMIT:g} s", _OTHER_COPROCESSORS)


def _allow(reason: str) -> str:
    for option in ("allow_private_buckets", "allow_http_buckets"):
        if option in reason:
            return f"set {option} = true where that bucket is meant to be used, as on a private network; else ask its operator"
    return _OTHER_COPROCESSORS


def judge_status(checked: str, status: int) -> Diagnosis:
    """Judge the answer of a bucket to a question for an object that is not there."""
    if status >= 500:  # noqa: PLR2004 - RFC 9110, 15.6
        return fault(checked, f"HTTP {status}", _OTHER_COPROCESSORS)
    return ok(checked, f"answers (HTTP {status}); no recent ciphertext of it to compare")


def judge_together(lines: Sequence[Diagnosis]) -> Sequence[Diagnosis]:
    """Return the lines of the buckets: where one serves the ciphertext, another that does not is a warning only."""
    if not any(line.status is CheckStatus.OK for line in lines):
        return lines
    other = {CheckStatus.FAULT: CheckStatus.WARNING}
    return [attrs.evolve(line, status=other.get(line.status, line.status)) for line in lines]
