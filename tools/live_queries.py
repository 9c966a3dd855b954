"""Evaluates every query of the dashboards against a live connector: emulated dependencies, ``kmsconn run`` and Prometheus on loopback.

Prints a row for each query with the number of series and the newest value, then the alerts that are firing. Needs Debian's ``prometheus``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tools.panels import DASHBOARDS, RANGE, PanelQuery

RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "kmsconn.rules.yml"
STARTING = 60.0
"""Seconds in which the processes must have started."""
_CONFIGURATION = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: kmsconn
    static_configs:
      - targets: ["{target}"]
        labels: {{namespace: kms, service: kmsconn-testnet, pod: kmsconn-testnet-0, container: kmsconn, endpoint: monitoring}}
"""
"""With the labels that the Prometheus operator gives to every series."""


@contextmanager
def running(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while the block lasts; what it says goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def wait_for(what: str, found: Any) -> Any:
    """Return what ``found`` returns once it is something. Raises SystemExit when that takes too long."""
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.2)
    raise SystemExit(f"{what} has not started within {STARTING:.0f} s")


def monitoring_of(log: Path) -> str:
    """Return the address of the monitoring port that a connector's log names, or nothing."""
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return next((str(one["monitoring"]) for one in events if one.get("event") == "started"), "")


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
    return port


def ask(base: str, expression: str) -> list[dict[str, Any]]:
    """Return the series of an expression now; none where Prometheus does not answer."""
    address = f"{base}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(address) as answer:  # noqa: S310 - loopback
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return found


def expression_of(query: PanelQuery) -> str:
    """Return a query as Grafana would send it, for all connectors and a rate over half a minute."""
    return query.expression.replace(RANGE, "30s").replace("$instance", ".*")


def rows(base: str) -> Iterator[tuple[int, str]]:
    """Yield for each query the number of its series, and its row."""
    for board in DASHBOARDS:
        for panel in board.panels:
            for query in panel.queries:
                found = ask(base, expression_of(query))
                newest = f"{float(found[0]['value'][1]):g}" if found else "no data"
                text = query.expression.replace("|", "\\|")
                yield len(found), f"| {board.uid} | {panel.title} | `{text}` | {len(found)} | {newest} |"


def report(base: str) -> None:
    """Print the rows and how many queries have data."""
    print("| dashboard | panel | query | series | first value |\n|---|---|---|---|---|")
    found = list(rows(base))
    for _, row in found:
        print(row)
    print(f"\n{sum(number > 0 for number, _ in found)} of {len(found)} queries return data.")
    firing = [f"{one['metric']['alertname']} {one['metric']['alertstate']}" for one in ask(base, "ALERTS")]
    print(f"Alerts: {', '.join(sorted(firing)) or 'none'}.")


def main() -> int:
    """Start everything, wait, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=int, default=45, help="how long Prometheus scrapes before it is asked"
    )
    seconds = parser.parse_args().seconds
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        print(
            "prometheus is not there; sudo apt-get install --no-install-recommends prometheus",
            file=sys.stderr,
        )
        return 2
    command = [sys.executable, "-m", "kmsconn.operate.commands.main"]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        config, log = folder / "kmsconn.toml", folder / "run.log"
        load = ["--rate", "5", "--kinds", "all", "--duration", str(seconds + 60)]
        emulator = [*command, "emulate", "--write-config", str(config), *load]
        stack.enter_context(running(emulator, folder / "emulate.log"))
        wait_for("the emulator", config.exists)
        stack.enter_context(running([*command, "run", "-c", str(config)], log))
        url = wait_for("the connector", lambda: monitoring_of(log))
        port = free_port()
        text = _CONFIGURATION.format(rules=RULES, target=url.removeprefix("http://"))
        (folder / "prometheus.yml").write_text(text)
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        listen = f"--web.listen-address=127.0.0.1:{port}"
        stack.enter_context(running([prometheus, *options, listen], folder / "prometheus.log"))
        base = f"http://127.0.0.1:{port}"
        wait_for("Prometheus", lambda: ask(base, "kmsconn_ready"))
        time.sleep(seconds)
        report(base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
