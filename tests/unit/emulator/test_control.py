"""The control handler tells what the chain shows, turns ports and Cores; and the file that ``kmsconn emulate`` writes."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.emulator.config_file import journal_beside, write_config
from kmsconn.emulator.control import COLUMNS, Control
from kmsconn.emulator.fhevm_dependencies import GENERATIONS, FhevmDependencies, Traffic
from kmsconn.emulator.ground_truth import CommitteeGroundTruth, ReplyOnChain
from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.emulator.key_life import QUICK
from kmsconn.emulator.load import POSTED_FORMS
from kmsconn.emulator.network import MemoryNetwork, TogglePort
from kmsconn.errors import ConfigError
from kmsconn.serving.decryptions import PUBLIC_PATH

BASE = 1_767_225_600.0


class Handler:
    """A control over dependencies in memory, whose toggle_ports stand open but serve nobody."""

    def __init__(self, **options: Any) -> None:
        self.dependencies = FhevmDependencies.make(lambda: BASE + trio.current_time(), **options)
        self.dependencies.settle_in_memory(MemoryNetwork())
        self.dependencies.toggle_ports |= {
            name: TogglePort(self.dependencies.handler(name)) for name in self.dependencies.names
        }
        self.committee = CommitteeGroundTruth.of(self.dependencies, options.get("members", 1))
        self.ground_truth = self.committee.nodes[0]
        self.traffic = Traffic(self.dependencies, Random(0))
        self.control = Control(self.dependencies, self.traffic, self.committee, BASE)

    async def get(self, path: str) -> HttpResponse:
        return await self.control.handle(HttpRequest("GET", path))

    async def post(self, path: str, content: Any = None) -> HttpResponse:
        return await self.control.handle(HttpRequest("POST", path, body=json.dumps(content).encode()))

    async def delete(self, path: str) -> HttpResponse:
        return await self.control.handle(HttpRequest("DELETE", path))

    async def load(self, nursery: trio.Nursery, **content: Any) -> Any:
        """Put a load on, under blocks and the ground_truth."""
        await nursery.start(self.dependencies.run)
        await nursery.start(self.ground_truth.watch)
        response = await self.post("/load", content)
        nursery.cancel_scope.cancel()
        return content_of(response)


def content_of(response: HttpResponse) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


async def test_of_a_committee_the_status_lists_the_nodes() -> None:
    status = content_of(await Handler(members=4).get("/status"))
    assert [node["answered"] for node in status["nodes"]] == [0, 0, 0, 0]


async def test_the_status_is_the_verdict_of_the_ground_truth() -> None:
    handler = Handler()
    handler.traffic.public()
    handler.dependencies.gateway.mine()
    handler.ground_truth.read()
    assert content_of(await handler.get("/status")) == {
        "emitted": 1, "answered": 0, "doubled": 0, "strays": 0, "p50": None, "p99": None, "consensus": 0,
    }  # fmt: skip


async def test_requests_are_told_with_their_moments_in_unix_time() -> None:
    handler = Handler()
    sent = handler.traffic.public()
    handler.dependencies.gateway.mine()
    handler.ground_truth.read()
    trace = handler.ground_truth.trace_of(sent)
    assert trace is not None
    trace.started, trace.given, trace.sent = trace.at + 1, trace.at + 2, trace.at + 3
    trace.answer = ReplyOnChain(b"", 1, 1, trace.at + 4)
    begun = BASE + trace.at
    assert content_of(await handler.get("/requests")) == {
        "columns": list(COLUMNS),
        "rows": [[begun, begun + 1, begun + 2, begun + 3, begun + 4]],
    }


async def test_a_load_is_answered_with_its_own_requests_and_has_its_size_and_forms() -> None:
    handler = Handler()
    handler.traffic.public()  # somebody else's
    before = set(handler.dependencies.plaintexts)
    async with trio.open_nursery() as nursery:
        done = await handler.load(nursery, rate=10, seconds=2, reply_timeout=3, size=4096, forms=["public"])
    assert (done["offered"], len(done["rows"]), handler.ground_truth.verdict().emitted) == (20, 20, 21)
    assert {len(body) for body in handler.dependencies.plaintexts.keys() - before} == {4096}
    assert all(name >> 248 == 1 for name in handler.ground_truth.traces), "public decryptions"


async def test_posts_are_made_in_turn_with_their_ciphertexts_in_the_buckets() -> None:
    handler = Handler()
    posts = content_of(await handler.post("/posts", {"count": 5}))["posts"]
    assert [post["form"] for post in posts] == [*POSTED_FORMS, "public"]
    handles = json.loads(posts[0]["body"])["ctHandles"]
    stored = handler.dependencies.buckets[0].bucket.objects
    assert posts[0]["path"] == PUBLIC_PATH
    assert all(any(handle[2:] in key for key in stored) for handle in handles)


@pytest.mark.parametrize("name", ["gateway", "ethereum", "host", "core0", "bucket0", "bucket1"])
async def test_every_dependency_can_be_shut_and_opened(name: str) -> None:
    handler = Handler()
    assert (await handler.post(f"/{name}/shut")).status == 204
    assert [
        other for other, toggle_port in handler.dependencies.toggle_ports.items() if not toggle_port.is_open
    ] == [name]
    assert (await handler.post(f"/{name}/open")).status == 204
    assert handler.dependencies.toggle_ports[name].is_open


async def test_a_core_can_be_restarted() -> None:
    handler = Handler()
    assert (await handler.post("/core0/restart")).status == 204
    assert handler.dependencies.cores[0].core.memory.uptime.restarts == 1


NO_LOADS: list[Any] = [None, {}, {"rate": "x", "seconds": 1}, {"rate": 1, "seconds": 1, "other": 1}]
NO_POSTS: list[Any] = [None, {"count": "x"}, {"count": 1, "forms": ["direct"]}, {"count": 1, "forms": ["x"]}]


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        *(("/load", content, 400) for content in NO_LOADS),
        *(("/posts", content, 400) for content in NO_POSTS),
        ("/gateway/restart", None, 404),
        ("/status", None, 404),
    ],
)
async def test_what_cannot_be_read_or_is_not_there_is_refused(path: str, content: Any, status: int) -> None:
    assert (await Handler().post(path, content)).status == status


def settings_for(config: Path, *, shards: int = 1, profile: str = "fhevm") -> Settings:
    """Return the settings of a connector among emulated dependencies."""
    settle = GENERATIONS[profile].settle
    dependencies = settle(lambda: 1_767_225_600.0, Random(0), shards=shards).dependencies
    dependencies.settle_in_memory(MemoryNetwork())
    settings: Settings = dependencies.settings(journal_beside(config), monitoring_endpoint="127.0.0.1:9")
    return settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "kmsconn.toml"


@pytest.mark.parametrize(
    ("profile", "quick"), [*((profile, {}) for profile in GENERATIONS), ("fhevm", QUICK)]
)
def test_what_is_written_is_read_as_the_same_settings(
    config: Path, profile: str, quick: dict[str, Any]
) -> None:
    settings = settings_for(config, profile=profile, shards=3 if profile == "fhevm" else 1).but(**quick)
    write_config(config, settings)
    found = load_config(config, environ={})
    assert found == settings
    assert len(found.core.core_endpoints) == (3 if profile == "fhevm" else 1)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600, "only the owner may read it"
    assert journal_beside(config).name == "kmsconn.emulated.db", "a name that no other connector's has"


def test_a_relative_path_gives_an_absolute_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(Path("k.toml"), settings_for(Path("k.toml")))
    assert load_config("k.toml", environ={}).storage.journal == tmp_path / "k.emulated.db"


@pytest.mark.parametrize(
    "name", ["with space.toml", 'quo"te.toml', "back\\slash.toml", "füße.toml", "a'b.toml"]
)
def test_odd_names_survive(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    settings = settings_for(path)
    write_config(path, settings)
    assert load_config(path, environ={}).storage.journal == settings.storage.journal


def test_an_earlier_file_of_ours_is_replaced(config: Path) -> None:
    write_config(config, settings_for(config))
    later = settings_for(config).but(monitoring_endpoint="127.0.0.1:10")
    write_config(config, later)
    assert load_config(config, environ={}).monitoring.monitoring_endpoint == "127.0.0.1:10"


def test_a_file_that_somebody_else_wrote_is_not_replaced_and_a_journal_is_kept(config: Path) -> None:
    config.write_text("gateway_chain_id = 1\n")
    settings = settings_for(config)
    assert isinstance(settings.storage.journal, Path)
    settings.storage.journal.touch()
    with pytest.raises(ConfigError, match="was not written by kmsconn emulate"):
        write_config(config, settings)
    assert config.read_text() == "gateway_chain_id = 1\n"
    assert settings.storage.journal.exists()
    nowhere = config.parent / "nowhere" / "k.toml"
    with pytest.raises(ConfigError, match="cannot be written"):
        write_config(nowhere, settings_for(nowhere))


def test_the_journal_of_a_chain_that_is_gone_is_removed(config: Path) -> None:
    settings = settings_for(config)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{settings.storage.journal}{suffix}").touch()
    write_config(config, settings)
    assert list(config.parent.iterdir()) == [config]
