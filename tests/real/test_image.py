"""The image builds, and runs as it is meant to: as its user, on a read-only root, without a shell. Takes minutes: ``make image``."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.cluster import Cluster
from tests.real.image import Image, build

pytestmark = [
    pytest.mark.once,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("KMSCONN_IMAGE"), reason="takes minutes: make image"),
]
HEALTH = ("health", "--endpoint", "/liveness")
WAITING = 60.0  # seconds for what takes a few on an idle machine


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    assert os.geteuid() == 0, "only root may make a root: sudo make image"
    lacking = [name for name in ("debootstrap", "podman", "unshare") if shutil.which(name) is None]
    assert not lacking, f"apt-get install --no-install-recommends {' '.join(lacking)}"
    folder = tmp_path_factory.mktemp("image")
    yield build(folder)
    shutil.rmtree(folder, ignore_errors=True)


def test_the_image_says_what_the_file_says(image: Image) -> None:
    assert (image.config["User"], image.config["WorkingDir"]) == ("10001:10001", "/var/lib/kmsconn")
    assert (image.config["Cmd"], image.config["StopSignal"]) == (["run"], "SIGTERM")
    assert image.config["Healthcheck"]["Test"] == ["CMD", *image.config["Entrypoint"], *HEALTH]


def test_there_is_no_build_tool_in_it(image: Image) -> None:
    assert not (image.root / "opt" / "build").exists()
    assert not (image.root / "src").exists()


def test_it_names_its_version(image: Image) -> None:
    assert re.fullmatch(r"kmsconn \d+\.\d+\.\d+\n", image.run("--version").stdout)


def test_it_says_what_is_missing(image: Image) -> None:
    said = image.run("run")
    assert said.returncode == 2
    assert "gateway_url: is required" in said.stderr


@pytest.mark.parametrize("journal", ["sqlite", "postgresql"])
def test_it_answers_requests_is_healthy_and_ends_when_it_is_told_to(
    image: Image, tmp_path: Path, journal: str, request: pytest.FixtureRequest
) -> None:
    """The dependencies are those of ``kmsconn emulate`` beside it; the health check is the image's own."""
    places = {}
    if journal == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgresql")
        places["KMS_CONNECTOR_JOURNAL"] = cluster.url(cluster.make_database(), tcp=True)
    written = tmp_path / "kmsconn.toml"
    load = ["--rate", "5", "--duration", "4", "--json"]
    emulation = [sys.executable, "-m", "kmsconn", "emulate", "--write-config", str(written), *load]
    with ended(subprocess.Popen(emulation, stdout=subprocess.PIPE, text=True)) as dependencies:  # noqa: S603 - our own command
        until(written.exists)
        (address,) = re.findall(r'(?m)^monitoring_endpoint = "(.*)"$', written.read_text())
        there = image.but(KMS_CONNECTOR_MONITORING_ENDPOINT=address, **places)
        (there.state / "kmsconn.toml").write_text(re.sub(r"(?m)^journal = .*\n", "", written.read_text()))
        with ended(
            subprocess.Popen(there.command("run", "--config", "kmsconn.toml"), text=True)  # noqa: S603 - our own image
        ) as connector:
            until(lambda: there.run(*HEALTH).returncode == 0)
            said, _ = dependencies.communicate(timeout=WAITING)
            connector.send_signal(signal.SIGTERM)
            assert connector.wait(timeout=WAITING) == 0
    verdict = json.loads(said.splitlines()[-1])
    assert (verdict["emitted"], verdict["answered"], verdict["doubled"]) == (20, 20, 0)
    assert [*image.state.glob("*.db")] == ([] if places else [image.state / "kmsconn.db"])
    for file in image.state.iterdir():
        file.unlink()


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End a process with the block, however that ends."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + WAITING
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)
