"""What this node must have is looked for: keys and CRS in its Core, a migration in the Core's record, its key set in the own storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import shake_256
from typing import Any, cast

import attrs
import pytest
import trio

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.connector.key_material import (
    AGAIN,
    FIRST_LOOK,
    KEY_SET_MISSING,
    MIGRATION_MISSED,
    STORAGE,
    CoreMaterial,
    MigratedKeySets,
    MissedMigrations,
)
from kmsconn.emulator.buckets import BucketFaults, EmulatedBucket
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.errors import Forgotten, Refused, RequestError, Unreachable
from kmsconn.ethereum.ids import id_name
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.protocols.fhevm.profile import Fhevm, read_material
from kmsconn.protocols.profile import KeyMigration, KeysAndCrs, MaterialCall, PublicObject
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports, offload_inline

KEY, BODY = 4 << 248 | 1, bytes(range(256)) * 1024
PATH = f"CompressedXofKeySet/{KEY:064x}"
WANTED = PublicObject(
    KEY, (f"http://storage/keys/{PATH}",), b"PDAT_KEY", shake_256(b"PDAT_KEY" + BODY).digest(32)
)


@attrs.define
class Storage:
    """The node's storage, what the chain says of it, and the watch over both."""

    bucket: EmulatedBucket
    watch: MigratedKeySets
    events: list[Event]
    wanted: PublicObject | Unreachable | None = WANTED

    async def find(self) -> PublicObject | None:
        await trio.lowlevel.checkpoint()
        if isinstance(self.wanted, Unreachable):
            raise self.wanted
        return self.wanted

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.events if isinstance(one, AlertRaised)]


@asynccontextmanager
async def open_storage(policy: BucketPolicy = BucketPolicy(True, True)) -> AsyncIterator[Storage]:
    network, events, bucket = MemoryNetwork(), list[Event](), EmulatedBucket("/keys")
    network.serve("storage", 80, BucketFaults(bucket).serve)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        async with open_http(Ports(network, offload_inline, lambda: 0.0, lambda: 0.5)) as http:
            watch = MigratedKeySets(
                lambda: found.find(),  # noqa: PLW0108 - it is made later
                http,
                policy.check,
                Board(events.append, trio.current_time),
            )
            found = Storage(bucket, watch, events)
            yield found
        nursery.cancel_scope.cancel()


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    async with open_storage() as storage:
        yield storage


@attrs.define
class Core:
    """Endpoints with keys; None: one that cannot tell. ``later``: what they have when they are asked again."""

    has: list[KeysAndCrs | None]
    later: list[KeysAndCrs | None]
    asked: int = 0

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"core[{index}]" for index in range(len(self.has)))

    async def inspect(self, index: int, method: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        found = (self.has if self.asked < len(self.has) else self.later)[index]
        self.asked += 1
        if found is None:
            return None
        keys, crs = ([f"{one:064x}" for one in sorted(ids)] for ids in (found.keys, found.crs))
        return bytes(kms.KeyMaterialAvailabilityResponse(fhe_key_ids=keys, crs_ids=crs))


CRS = 5 << 248 | 1
ALL, NONE = KeysAndCrs(frozenset({KEY}), frozenset({CRS})), KeysAndCrs()


async def everything() -> KeysAndCrs:
    await trio.lowlevel.checkpoint()
    return ALL


@pytest.mark.parametrize(
    ("has", "later", "missing"),
    [
        ([ALL, ALL], [ALL, ALL], {}),
        ([ALL, NONE], [ALL, NONE], {"core[1]": [KEY, CRS]}),
        ([NONE, None], [KeysAndCrs(frozenset({KEY})), None], {"core[0]": [CRS]}),
        ([NONE, ALL], [ALL, ALL], {}),
    ],
    ids=[
        "all there",
        "one endpoint without any",
        "one without CRS, one that cannot tell",
        "there a minute later",
    ],
)
async def test_a_core_without_what_the_contract_has_is_critical(
    has: list[Any], later: list[Any], missing: dict[str, list[int]]
) -> None:
    events: list[Event] = []
    core, call = Core(has, later), MaterialCall("GetKeyMaterialAvailability", read_material)
    await CoreMaterial(everything, cast("Any", core), call, Board(events.append, trio.current_time)).look()
    told = [one for one in events if isinstance(one, AlertRaised)]
    assert {one.dependency: one.severity for one in told} == dict.fromkeys(missing, Severity.CRITICAL)
    for alert in told:
        assert alert.text.startswith(
            f"the Core does not have {', '.join(map(id_name, missing[alert.dependency]))}"
        )


MISSED = KeyMigration(KEY, 4 << 248 | 3, 3 << 248 | 3)
ORIGINAL = 3 << 248 | 1


@attrs.define
class RecordingCore:
    """Endpoints with what each says of a key when it is asked, once and again: a preparation, 0 for none, or an error."""

    says: list[list[int | RequestError]]
    asked: list[tuple[int, str, bytes]] = attrs.field(factory=list)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"core[{index}]" for index in range(len(self.says)))

    async def inspect(self, index: int, method: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append((index, method, message))
        said = self.says[index].pop(0)
        if isinstance(said, RequestError):
            raise said
        named = kms.RequestId(f"{said:064x}") if said else None
        return bytes(kms.KeyGenResult(preprocessing_id=named))


@attrs.define
class MigrationScene:
    """The watch over migrations that were missed, of a chain that says of one so."""

    core: RecordingCore
    missed: list[KeyMigration] = attrs.field(factory=lambda: [MISSED])
    events: list[Event] = attrs.field(factory=list)
    watch: MissedMigrations = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        call, board = Fhevm.record_call, Board(self.events.append, trio.current_time)
        self.watch = MissedMigrations(self.find, cast("Any", self.core), call, board)

    async def find(self) -> list[KeyMigration]:
        await trio.lowlevel.checkpoint()
        return self.missed

    @property
    def texts(self) -> dict[str, str]:
        raised = [one for one in self.events if isinstance(one, AlertRaised)]
        assert {(one.cause, one.severity) for one in raised} <= {(MIGRATION_MISSED, Severity.CRITICAL)}
        return {one.dependency: one.text for one in raised}


def migrated(*says: Sequence[int | RequestError]) -> MigrationScene:
    return MigrationScene(RecordingCore([[*one] for one in says]))


@pytest.mark.parametrize("failure", [Forgotten("no such key"), Refused("it failed"), 0])
async def test_a_core_that_names_no_preparation_does_not_refute_the_contract(failure: Any) -> None:
    scene = migrated([failure, failure])
    await scene.watch.look()
    assert "the Core has recorded none that it names" in scene.texts["core[0]"]


async def test_a_core_that_kept_the_earlier_preparation_is_critical_with_both_ids() -> None:
    """Each endpoint is told of by itself; the call is the one for the result of a key."""
    scene = migrated([ORIGINAL, ORIGINAL], [MISSED.prep_id, MISSED.prep_id])
    started = trio.current_time()
    assert await scene.watch.look() == FIRST_LOOK
    assert trio.current_time() - started == AGAIN
    [text] = scene.texts.values()
    assert id_name(KEY) in text
    assert id_name(MISSED.request_id) in text
    assert f"names {id_name(MISSED.prep_id)} for it, and the Core has recorded {id_name(ORIGINAL)}" in text
    assert scene.core.asked[0] == (0, "GetKeyGenResult", bytes(kms.RequestId(f"{KEY:064x}")))


async def test_a_core_that_has_recorded_the_migration_has_missed_nothing() -> None:
    """It made what this node replied with too late; or it ends a minute after the others."""
    for says in ([MISSED.prep_id], [ORIGINAL, MISSED.prep_id]):
        scene = migrated(says)
        await scene.watch.look()
        assert scene.events == []


async def test_the_alert_ends_with_the_cores_record_or_with_a_later_epoch() -> None:
    for ends_by_record in (True, False):
        scene = migrated([ORIGINAL, ORIGINAL, MISSED.prep_id])
        await scene.watch.look()
        if not ends_by_record:
            scene.missed.clear()
        await scene.watch.look()
        assert scene.events[1:] == [AlertCleared("core[0]", MIGRATION_MISSED)]


async def test_nothing_changes_while_the_core_is_not_reached() -> None:
    scene = migrated([ORIGINAL, ORIGINAL, Unreachable("silent")])
    await scene.watch.look()
    await scene.watch.look()
    assert [type(one) for one in scene.events] == [AlertRaised]


async def test_without_a_missed_migration_no_core_is_asked() -> None:
    scene = migrated([])
    scene.missed.clear()
    await scene.watch.look()
    assert (scene.events, scene.core.asked) == ([], [])


async def test_an_object_that_is_there_as_it_was_signed_is_compared_once_and_then_only_looked_for(
    storage: Storage,
) -> None:
    """It may have gigabytes."""
    storage.bucket.put(PATH, BODY)
    for _ in range(3):
        await storage.watch.look()
    assert storage.events == []
    assert storage.bucket.counts == {("GET", 200): 1, ("HEAD", 200): 2}
    storage.bucket.objects.clear()
    await storage.watch.look()
    assert len(storage.texts) == 1


async def test_a_missing_object_is_an_alert_until_it_is_there(storage: Storage) -> None:
    await storage.watch.look()
    [text] = storage.texts
    assert f"key 0x{KEY:064x} at http://storage is missing (HTTP 404)" in text
    storage.bucket.put(PATH, BODY)
    await storage.watch.look()
    assert storage.events[1:] == [AlertCleared(STORAGE, KEY_SET_MISSING)]


@pytest.mark.parametrize("prefix", ["PUB-p1/", ""], ids=["prefix", "root"])
async def test_an_object_is_looked_for_at_each_place_where_it_may_lie(storage: Storage, prefix: str) -> None:
    storage.bucket.put(f"{prefix}{PATH}", BODY)
    urls = tuple(f"http://storage/keys/{one}{PATH}" for one in ("PUB-p1/", ""))
    storage.wanted = attrs.evolve(WANTED, urls=urls)
    for _ in range(2):
        await storage.watch.look()
    assert storage.events == []


async def test_another_object_is_an_alert(storage: Storage) -> None:
    storage.bucket.put(PATH, BODY)
    storage.wanted = attrs.evolve(WANTED, digest=WANTED.digest[:-1] + bytes([WANTED.digest[-1] ^ 1]))
    await storage.watch.look()
    [text] = storage.texts
    assert "another one than the committee has signed" in text


@pytest.mark.parametrize("wanted", [None, Unreachable("the chain is silent")])
async def test_without_a_migrated_key_or_a_chain_nothing_is_asked(storage: Storage, wanted: Any) -> None:
    storage.wanted = wanted
    await storage.watch.look()
    assert (storage.events, storage.bucket.counts) == ([], {})


async def test_an_address_that_may_not_be_asked_is_not() -> None:
    async with open_storage(BucketPolicy()) as storage:
        await storage.watch.look()
        assert (storage.events, storage.bucket.counts) == ([], {})


async def test_an_alert_stays_while_the_storage_does_not_answer(storage: Storage) -> None:
    await storage.watch.look()
    storage.wanted = attrs.evolve(WANTED, urls=("http://nobody/keys",))
    await storage.watch.look()
    assert [type(one) for one in storage.events] == [AlertRaised]
