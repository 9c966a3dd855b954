"""``python -m bench.shadow``: a shadow beside a second connector under a load; what it compared, and the time it would gain.

Both are processes of this checkout, on the emulator's sockets, for one node. The one sends; the shadow has no key and compares. With
``--plant`` each of the two has a shard of the Core of its own, and the shadow's gives other values for some public decryptions from half
of the time on: every such reply must be told, and no other.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from bench.connector import Recipe, open_connectors, options_of
from bench.machine import write_report
from bench.processes import EmulatedDependencies, open_dependencies
from kmsconn.emulator.network import reserve_ports
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.signing import PrivateKey

READY = 3.0  # seconds for both connectors to hear the chain
REPLIES_IN_TIME = 60.0  # seconds after the last request in which its reply must be there
SETTLING = 5.0  # seconds in which the shadow compares the last replies
PLANTED: Final = {"method": "GetPublicDecryptionResult", "how": "other values", "share": 0.5}
_SAMPLE = re.compile(r"^(kmsconn_shadow_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


@attrs.frozen
class ShadowRun:
    """What a run came to. ``differing``: answers that differ between the journals of the two, ``likenesses``: compared replies.

    ``told``: log lines about a difference; ``gained``: buckets, sum and count of the time gained.
    """

    rate: float
    seconds: float
    planted: bool
    differing: int
    offered: int
    status: Mapping[str, Any]
    likenesses: Mapping[str, int]
    differences: Mapping[str, int]
    unmatched: int
    missing: int
    told: int
    gained: Mapping[str, float]

    @property
    def well(self) -> bool:
        """Every request was answered once and compared, and every planted difference told, nothing else."""
        compared, different = sum(self.likenesses.values()), self.likenesses.get("different", 0)
        once = self.status["answered"] == self.status["emitted"] and not self.status["doubled"]
        all_compared = compared == self.offered and not self.unmatched and not self.missing
        all_told = different == self.told == self.differing and (self.told > 0) == self.planted
        return once and all_compared and all_told


def config_without(config: Path, *names: str) -> str:
    """Return a configuration without some of its options."""
    dropped = tuple(f"{name} =" for name in names)
    return "\n".join(
        line for line in config.read_text(encoding="utf-8").splitlines() if not line.startswith(dropped)
    )


def write_active(config: Path, shard: str) -> Path:
    """Write the configuration of the connector that sends, with one shard of the Core."""
    path = config.with_name("active.toml")
    text = config_without(config, "kms_core_endpoints")
    path.write_text(f'kms_core_endpoints = ["{shard}"]\n{text}\n', encoding="utf-8")
    path.chmod(0o600)
    return path


def write_shadow(config: Path, shard: str, port: int) -> Path:
    """Write the configuration of the shadow: no key, its own journal and port."""
    key = str(options_of(config)["private_key"])
    sender = checksum(PrivateKey.parse(key).address)
    path = config.with_name("shadow.toml")
    text = config_without(
        config, "kms_core_endpoints", "private_key", "journal", "monitoring_endpoint", "log_level"
    )
    own = (
        'mode = "shadow"',
        f'tx_sender_address = "{sender}"',
        f'kms_core_endpoints = ["{shard}"]',
        f'journal = "sqlite:///{path.with_suffix(".db")}"',
        f'monitoring_endpoint = "127.0.0.1:{port}"',
    )
    path.write_text("\n".join((*own, text, "")), encoding="utf-8")
    path.chmod(0o600)
    return path


def scrape(port: int) -> Samples:
    """Return the samples of shadow mode."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"http://127.0.0.1:{port}/metrics"
    ) as response:
        text = response.read().decode()
    return {
        (name, tuple(_LABEL.findall(labels))): float(value) for name, labels, value in _SAMPLE.findall(text)
    }


def summed(samples: Samples, name: str, label: str) -> dict[str, int]:
    """Return the sums of a counter by one of its labels."""
    found: dict[str, int] = {}
    for (family, labels), value in samples.items():
        if family == name and value:
            key = dict(labels)[label]
            found[key] = found.get(key, 0) + int(value)
    return found


def gained_of(samples: Samples) -> dict[str, float]:
    """Return the histogram of the time gained over both kinds of decryption."""
    found: dict[str, float] = {}
    for (family, labels), value in samples.items():
        if family.startswith("kmsconn_shadow_gained_seconds_"):
            part = dict(labels).get("le", family.rpartition("_")[2])
            found[part] = found.get(part, 0.0) + value
    return found


def told_in(log: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines about differences."""
    for line in log.read_text(encoding="utf-8").splitlines():
        if '"reply_compared"' in line and '"different"' in line:
            yield json.loads(line)


def differing_answers(active: Mapping[str, Any], shadow: Path) -> int:
    """Count the requests to which the two journals have other answers, without what compared them."""
    one, other = (
        _answers(Path(path))
        for path in (str(active["journal"]).removeprefix("sqlite:///"), shadow.with_suffix(".db"))
    )
    return sum(one[identifier] != other[identifier] for identifier in one.keys() & other.keys())


def _answers(journal: Path) -> dict[bytes, bytes]:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        return dict(db.execute("SELECT id, calldata FROM request WHERE calldata IS NOT NULL"))


async def offer(dependencies: EmulatedDependencies, arguments: argparse.Namespace) -> int:
    """Offer the load, with the fault from its half on where one is planted; return how many requests there were."""
    halves = [arguments.seconds / 2] * 2 if arguments.plant else [arguments.seconds]
    offered = 0
    for index, seconds in enumerate(halves):
        if index:
            await dependencies.post("/core1/spoil", PLANTED)
        load = {"rate": arguments.rate, "seconds": seconds, "reply_timeout": REPLIES_IN_TIME}
        offered += (await dependencies.post("/load", {**load, "forms": arguments.forms}))["offered"]
    return offered


async def run(arguments: argparse.Namespace, folder: Path) -> ShadowRun:
    """Run both connectors under the load."""
    with reserve_ports(1) as (port,):
        return await _run(arguments, folder, port)


async def _run(arguments: argparse.Namespace, folder: Path, port: int) -> ShadowRun:
    shards = 2 if arguments.plant else 1
    async with open_dependencies(folder, "--shards", str(shards), "--history", "600") as dependencies:
        cores = options_of(dependencies.config)["kms_core_endpoints"]
        log = folder / "shadow.log"
        active = write_active(dependencies.config, cores[0])
        shadow = write_shadow(dependencies.config, cores[-1], port)
        async with open_connectors(Recipe(), (active, shadow)):
            await trio.sleep(READY)
            offered = await offer(dependencies, arguments)
            await trio.sleep(SETTLING)
            samples = await trio.to_thread.run_sync(partial(scrape, port))
            status = await dependencies.get("/status")
        told = list(told_in(log))
        differing = differing_answers(options_of(active), shadow)
        for line in told[:3]:
            print({name: line[name] for name in ("id", "at", "field", "ours", "theirs", "seconds")})
    differences = summed(samples, "kmsconn_shadow_differences_total", "field")
    return ShadowRun(
        rate=arguments.rate,
        seconds=arguments.seconds,
        planted=arguments.plant,
        differing=differing,
        offered=offered,
        status=status,
        likenesses=summed(samples, "kmsconn_shadow_compared_total", "likeness"),
        differences=differences,
        unmatched=sum(summed(samples, "kmsconn_shadow_unmatched_total", "kind").values()),
        missing=sum(summed(samples, "kmsconn_shadow_missing_total", "kind").values()),
        told=len(told),
        gained=gained_of(samples),
    )


def main() -> int:
    """Run it and print what it came to. Returns 1 where a request was not compared, or a difference not told."""
    parser = argparse.ArgumentParser(prog="python -m bench.shadow", description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="requests per second (20)")
    parser.add_argument("--seconds", type=float, default=600.0, help="seconds of requests (600)")
    parser.add_argument(
        "--plant", action="store_true", help="let the shadow's Core give other values now and then"
    )
    parser.add_argument("--forms", nargs="+", default=[], help="forms of requests (all, drawn by chance)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = trio.run(run, arguments, Path(folder))
    content = {"well": found.well, **attrs.asdict(found)}
    if arguments.out is not None:
        write_report(arguments.out, arguments, ("rate", "seconds", "plant", "forms"), content)
    print(json.dumps(content, indent=2))
    return 0 if found.well else 1


if __name__ == "__main__":
    raise SystemExit(main())
