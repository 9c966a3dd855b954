"""``kmsconn emulate``: its arguments, what it says at the end, and with which status it ends. Serves nothing here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio

from kmsconn.emulator import emulation
from kmsconn.emulator.commands import arguments as command
from kmsconn.emulator.commands.emulate import CORE_RELEASES, plan_of
from kmsconn.emulator.core_requests import RELEASES, CoreRelease
from kmsconn.emulator.dependencies import RealCore
from kmsconn.emulator.emulation import Emulation, EmulationResult, PlaintextVerdict, seal_cheaply
from kmsconn.emulator.fhevm_dependencies import GENERATIONS, FhevmDependencies
from kmsconn.emulator.ground_truth import ChainVerdict, CommitteeVerdict, GroundTruth
from kmsconn.emulator.httpz.dependencies import HttpzDependencies
from kmsconn.emulator.load import Load, PostVerdict
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import PROFILES
from kmsconn.operate.commands.main import main, make_parser

T = TypeVar("T")
WELL = ChainVerdict(emitted=4, answered=4, doubled=0, strays=0, p50=0.25, p99=0.5, consensus=4)


def result(*nodes: ChainVerdict) -> EmulationResult:
    return EmulationResult(CommitteeVerdict(nodes))


def noted(things: list[T], thing: T) -> T:
    things.append(thing)
    return thing


def run_command(monkeypatch: pytest.MonkeyPatch, verdict: ChainVerdict, *arguments: str) -> int:
    """Execute the command with an emulation that has ended with this verdict."""
    monkeypatch.setattr(trio, "run", lambda *_: None)
    monkeypatch.setattr(GroundTruth, "verdict", lambda _: verdict)
    return main(["emulate", "--write-config", "k.toml", *arguments])


FILE = ["--write-config", "k.toml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "1", "--duration", "1"],  # without the file
        *(
            [*FILE, *wrong.split()]
            for wrong in (
                "--rate -1", "--duration -1", "--size 31", "--shards 0", "--computing -1", "--profile nonsense", "--seed x",
                "--control 0", "--control x", "--history 0", "--members 0", "--members 3", "--members x", "--core-release 0.13",
                "--core 127.0.0.1:50051", "--core http://127.0.0.1/", "--signer 0xab", "--params small",
            )
        ),
    ],
)  # fmt: skip
def test_wrong_values_are_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(["emulate", *arguments])
    assert caught.value.code == 2


def emulations(
    monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> list[tuple[emulation.EmulationPlan, Emulation]]:
    """Return what the command makes of its arguments."""
    made: list[tuple[emulation.EmulationPlan, Emulation]] = []
    real = Emulation.of
    monkeypatch.setattr(Emulation, "of", classmethod(lambda _, plan: noted(made, (plan, real(plan)))[1]))
    run_command(monkeypatch, WELL, *arguments)
    return made


def test_arguments_become_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    [(plan, _)] = emulations(
        monkeypatch, "--rate", "5", "--duration", "2", "--size", "64", "--seed", "7", "--shards", "2",
        "--computing", "0.5", "--forms", "public", "wallet", "--core-release", "0.14", "0.16",
    )  # fmt: skip
    load = Load(5.0, 2.0, ("public", "wallet"))
    releases = (CoreRelease.V0_14, CoreRelease.V0_16)
    expected: dict[str, Any] = {"size": 64, "seed": 7, "shards": 2, "releases": releases, "computing": 0.5}
    assert plan == emulation.EmulationPlan(Path("k.toml"), load, **expected)


def test_without_a_rate_there_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    [(plan, _)] = emulations(monkeypatch, "--rate", "0", "--control", "9000", "--history", "60")
    assert plan == emulation.EmulationPlan(Path("k.toml"), None, control=9000, history=60.0)


def test_the_profile_chooses_the_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    [(_, made)] = emulations(monkeypatch, "--profile", "httpz-rc7")
    assert isinstance(made.dependencies, HttpzDependencies)


def test_releases_and_profiles_of_the_options_are_those_of_the_emulator() -> None:
    assert tuple(RELEASES) == CORE_RELEASES
    assert set(PROFILES) == set(GENERATIONS)


def test_releases_go_to_the_shards_in_turn_and_the_first_to_the_other_members() -> None:
    committee = emulation.CommitteePlan(4)
    releases = (CoreRelease.V0_15, CoreRelease.V0_16)
    plan = emulation.EmulationPlan(Path("k.toml"), None, shards=3, releases=releases, committee=committee)
    made = Emulation.of(plan).dependencies
    assert [one.core.node.release.text for one in made.cores] == ["0.15", "0.16", "0.15"]
    assert {one.core.node.release.text for one in made.others} == {"0.15"}


CORE = ["--core", "http://127.0.0.1:50051", "--signer", "0x" + "ab" * 20]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (CORE[:2], "--signer: is given 0 times, --core 1 times"),
        ([*CORE, "--members", "4"], "--core: is given 1 times for 4 members"),
        (CORE * 2, "--core: the number of Cores must be 1, 4, 7, 10"),
        ([*CORE, "--profile", "httpz-rc7"], "httpz-rc7 takes no real Cores or ciphertexts"),
        ([*CORE, "--core-release", "0.16"], "--core-release: is for emulated Cores of fhevm"),
        (
            ["--ciphertexts", "c.json", "--profile", "httpz-rc7"],
            "httpz-rc7 takes no real Cores or ciphertexts",
        ),
        ([*CORE, "--shards", "2"], "--shards: is for emulated Cores"),
        ([*CORE, "--computing", "1"], "--computing: is for emulated Cores"),
        ([*CORE, "--size", "2048"], "--size: is for emulated ciphertexts"),
        ([*CORE, "--rate", "1"], "real Cores cannot decrypt emulated ciphertexts"),
        (["--kinds", "all", "--profile", "httpz-rc7"], "httpz-rc7 has no emulated key lifecycle"),
        (["--posts", "7", "--profile", "httpz-rc7"], "takes nothing over HTTP"),
        (["--profile", "fhevm", "--forms", "public", "user"], "fhevm has no form 'user'"),
        (["--profile", "httpz-rc7", "--forms", "public", "direct"], "httpz-rc7 has no form 'direct'"),
        (["--profile", "httpz-rc7", "--forms", "public", "nonsense"], "httpz-rc7 has no form 'nonsense'"),
        (["--ciphertexts", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--upgrade", "--members", "4"], "--upgrade: no key lifecycle is led"),
        (["--upgrade", "--kinds", "all"], "--upgrade: a centralised Core cannot migrate a key"),
        ([*CORE * 4, "--upgrade", "--kinds", "all"], "--upgrade: real Cores are led through no upgrade"),
    ],
)
def test_what_does_not_fit_together_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert run_command(monkeypatch, WELL, *arguments) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "keys", "params"),
    [([], True, 0), (["--params", "test"], True, 1), (["--kinds", "decryptions"], False, 0)],
)
def test_real_cores_are_led_unless_only_decryptions_are_wanted(
    more: list[str], keys: bool, params: int
) -> None:
    """And there is no load where there are no ciphertexts that they can decrypt."""
    arguments = make_parser().parse_args(["emulate", "--write-config", "k.toml", *CORE * 4, *more])
    plan = plan_of(arguments)
    core = RealCore("http://127.0.0.1:50051", Address(b"\xab" * 20))
    assert plan == emulation.EmulationPlan(
        Path("k.toml"), None, committee=emulation.CommitteePlan(4, (core,) * 4, keys, params)
    )


def test_wrong_plaintexts_end_badly_and_are_told() -> None:
    wrong = attrs.evolve(result(WELL), plaintexts=PlaintextVerdict(3, 1))
    assert "plaintexts: 3 public replies compared, 1 wrong" in command.report(wrong, 1.0)
    assert command.summary(wrong, 1.0)["plaintexts"] == {"compared": 3, "wrong": 1}
    assert (wrong.well, attrs.evolve(wrong, plaintexts=PlaintextVerdict(3, 0)).well) == (False, True)


def test_a_life_of_keys_decides_over_the_status_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was led here, so it ends badly, and says why."""
    assert run_command(monkeypatch, WELL, "--kinds", "all") == 1
    assert "NOT every step of the key lifecycle succeeded" in capsys.readouterr().out
    assert run_command(monkeypatch, WELL, "--kinds", "all", "--json") == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["keys"] == {
        "steps": [], "included": 0, "open": 0, "aborted": 0, "doubled": 0, "well": False,
    }  # fmt: skip


def test_an_upgrade_is_led_through_a_migration() -> None:
    more = ["--kinds", "all", "--members", "4", "--upgrade"]
    plan = plan_of(make_parser().parse_args(["emulate", "--write-config", "k.toml", *more]))
    keys = Emulation.of(plan).keys
    assert keys is not None
    assert {"key across an upgrade", "abort of a migration", "migration"} <= set(keys.steps)


def test_posts_alone_are_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["emulate", "--write-config", "k.toml", "--rate", "0", "--posts", "7", "--duration", "3"]
    plan = plan_of(make_parser().parse_args(arguments))
    assert plan.load == Load(0.0, 3.0, (), posts=7.0)
    emulated = Emulation.of(plan)
    assert emulated.result().posts == PostVerdict(0, {}, None, None)


def test_posts_are_told_and_decide_over_the_status_too() -> None:
    posts = PostVerdict(4, {"ok": 3, "acl_denied": 1}, 0.1, 0.5, 2)
    found = attrs.evolve(result(WELL), posts=posts)
    assert not found.well
    assert list(command.report(found, 1.0))[-2] == (
        "posted over HTTP: 4, 3 answered, 1 acl_denied, 2 repetitions; p50 100 ms, p99 500 ms"
    )
    assert command.summary(found, 1.0)["posts"] == {
        "posted": 4,
        "answered": 3,
        "repeated": 2,
        "codes": {"ok": 3, "acl_denied": 1},
        "p50_ms": 100.0,
        "p99_ms": 500.0,
    }


def test_history_is_counted_in_blocks_of_the_gateway() -> None:
    made = Emulation.of(emulation.EmulationPlan(Path("k.toml"), None, history=60.0))
    assert isinstance(made.dependencies, FhevmDependencies)
    assert (made.dependencies.gateway.history.kept, made.dependencies.host.history.kept) == (240, None)


def test_the_moments_of_requests_reach_the_ground_truth() -> None:
    made = Emulation.of(emulation.EmulationPlan(Path("k.toml"), None, shards=2))
    dependencies, ground_truth = made.dependencies, made.ground_truth
    assert dependencies.gateway.intake.on_submit == ground_truth.note_sent
    assert {core.core.on_start for core in dependencies.cores} == {ground_truth.note_started}
    assert {core.core.on_answer for core in dependencies.cores} == {ground_truth.note_given}


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (WELL, 0),
        (attrs.evolve(WELL, answered=3), 1),
        (attrs.evolve(WELL, doubled=1), 1),
        (attrs.evolve(WELL, strays=1), 1),
    ],
)
def test_the_status_says_whether_every_request_was_answered_once(
    monkeypatch: pytest.MonkeyPatch, verdict: ChainVerdict, status: int
) -> None:
    assert run_command(monkeypatch, verdict) == status


def test_the_last_line_for_machines_is_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(monkeypatch, attrs.evolve(WELL, answered=3), "--json")
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last.pop("seconds") >= 0
    assert last == {
        "emitted": 4, "consensus": 4, "answered": 3, "doubled": 0, "open": 1, "strays": 0, "p50_ms": 250.0, "p99_ms": 500.0,
    }  # fmt: skip


def test_the_text_says_what_came_of_it() -> None:
    assert list(command.report(result(WELL), 12.34)) == [
        "emitted    4 in 12.3 s",
        "node 1     4 answered, 0 open, 0 doubled; p50 250 ms, p99 500 ms from the event's block to the reply's",
        "every request was answered once",
    ]
    text = list(command.report(result(attrs.evolve(WELL, strays=2)), 1.0))
    assert "2 replies to unknown ids" in text[1]
    assert text[-1] == "NOT every request was answered once"


def test_progress_names_doubles_and_latencies_only_where_there_are_some() -> None:
    assert "doubled" not in command.progress(WELL, 3.0)
    assert "1 doubled" in command.progress(attrs.evolve(WELL, doubled=1), 3.0)
    nothing = ChainVerdict(emitted=1, answered=0, doubled=0, strays=0, p50=None, p99=None)
    assert command.progress(nothing, 1.0)[-1] == "-"
    assert command.summary(result(nothing), 1.0)["p50_ms"] is None


MISSING = attrs.evolve(WELL, answered=0, p50=None, p99=None)


def test_a_committee_is_told_node_by_node_and_to_machines_as_a_list_of_nodes() -> None:
    found = result(WELL, WELL, WELL, MISSING)
    text = list(command.report(found, 12.34))
    assert text[:3] == [
        "emitted    4 in 12.3 s",
        "consensus  4",
        "node 1     4 answered, 0 open, 0 doubled; p50 250 ms, p99 500 ms from the event's block to the reply's",
    ]
    assert text[5].startswith("node 4     0 answered, 4 open, 0 doubled")
    assert text[6:] == ["every request found consensus"]
    told = command.summary(found, 12.34)
    assert [node["open"] for node in told.pop("nodes")] == [0, 0, 0, 4]
    assert told == {"emitted": 4, "consensus": 4, "doubled": 0, "strays": 0, "seconds": 12.34}


@pytest.mark.parametrize(
    ("nodes", "well"),
    [
        ((WELL, WELL, WELL, MISSING), True),
        ((attrs.evolve(WELL, consensus=3),) * 4, False),
        ((WELL, WELL, WELL, attrs.evolve(WELL, doubled=1)), False),
        ((WELL, WELL, WELL, attrs.evolve(WELL, strays=1)), False),
        ((MISSING,), False),
    ],
    ids=["one missing", "no consensus", "doubled", "stray", "alone and missing"],
)
def test_a_committee_does_well_with_a_node_missing(nodes: tuple[ChainVerdict, ...], well: bool) -> None:
    """As long as enough answer; a node on its own must not be missing."""
    assert result(*nodes).well is well


def test_a_fault_of_the_emulator_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Emulation.of(emulation.EmulationPlan(Path("k.toml"), Load(1, 1)))
    made.dependencies.crashes.append(RuntimeError("a bug"))
    monkeypatch.setattr(Emulation, "of", classmethod(lambda *_: made))
    run_command(monkeypatch, WELL)
    assert "the emulator itself failed: RuntimeError('a bug')" in capsys.readouterr().err


def test_shares_are_sealed_with_few_encapsulations_and_own_nonces() -> None:
    from kmsconn.emulator.core_requests import Job
    from kmsconn.ethereum.abi import Domain

    domain = Domain("Decryption", "1", 1, bytes(20))  # type: ignore[arg-type]
    jobs = [Job(number.to_bytes(32), (), b"", b"", b"", domain, b"") for number in range(200)]
    drawn = [seal_cheaply(job, place) for job in jobs for place in (0, 1)]
    assert len({one.encapsulation_m for one in drawn}) <= 32
    assert len({one.nonce for one in drawn}) == len(drawn)
