"""The peers as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bench.cluster import UNSYNCED, Cluster, open_cluster
from tests.real import peers, stores
from tests.real.gateways import Scene, open_scene
from tests.real.stores import open_radosgw


@pytest.fixture(scope="session")
def anvil() -> Path:
    """The binary of a node that is not ours."""
    return peers.need("anvil")


@pytest.fixture(scope="session")
def node_tkms() -> Path:
    """The client library that opens shares."""
    return peers.need("node-tkms")


@pytest.fixture(scope="session")
def node_tkms_rc6() -> Path:
    """The client library that opens shares of the first generation."""
    return peers.need("node-tkms-rc6")


@pytest.fixture(scope="session")
def chromium() -> Path:
    """A browser."""
    return peers.need("chromium")


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' own reader of rules."""
    return peers.need("promtool")


@pytest.fixture(scope="session")
def kustomize() -> Path:
    """The program that renders manifests."""
    return peers.need("kustomize")


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.ServedStore]:
    """Ceph's S3 server."""
    peers.need("radosgw")
    with open_radosgw(tmp_path_factory.mktemp("radosgw")) as port:
        yield stores.ServedStore(port, stores.connect(port))


@pytest.fixture(scope="session")
def moto() -> Iterator[stores.ServedStore]:
    """The server of moto."""
    with stores.open_moto() as port:
        yield stores.ServedStore(port, stores.connect(port))


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No region and no credentials of this machine for the SDK."""
    for name in (
        "PROFILE",
        "REGION",
        "DEFAULT_REGION",
        "SESSION_TOKEN",
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def postgresql_programs() -> Path:
    """The folder of PostgreSQL's programs."""
    return peers.need("postgresql")


@pytest.fixture(scope="session")
def postgresql(postgresql_programs: Path) -> Iterator[Cluster]:
    """A server of PostgreSQL."""
    with open_cluster(postgresql_programs, **UNSYNCED) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pgbouncer() -> Path:
    """A pooler of connections to PostgreSQL."""
    return peers.need("pgbouncer")


@pytest.fixture
def database(postgresql: Cluster) -> Iterator[str]:
    """The name of a fresh database on it."""
    name = postgresql.make_database()
    yield name
    postgresql.drop_database(name)


@pytest.fixture(params=["emulated", "moto", "radosgw"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[stores.Store]:
    """A place with buckets: emulated, and on servers that are not ours."""
    if request.param == "emulated":
        async with stores.open_emulated_store() as ours:
            yield ours
    else:
        yield request.getfixturevalue(request.param)


@pytest.fixture(params=["emulated", "anvil"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    """A Gateway with requests on it, once emulated and once on anvil."""
    anvil = request.getfixturevalue("anvil") if request.param == "anvil" else None
    async with open_scene(request.param, anvil, tmp_path) as found:
        yield found
