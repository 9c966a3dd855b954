"""The command lines of the documentation: where they stand, which are run, and why the others are only parsed. Runs nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import attrs

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

OURS: Final = {
    "kmsconn": "kmsconn",
    ".venv/bin/kmsconn": "kmsconn",
    "make": "make",
    ".venv/bin/python": "python",
}
OTHERS: Final = frozenset(
    (
        "chmod", "curl", "install", "kill", "kubectl", "openssl", "pip", "podman", "python3", "sqlite3", "systemctl", "systemd-creds", "tr",
        "umask", "xdg-open", "/opt/kmsconn/bin/pip",
    )
)  # fmt: skip
"""Programs that are not this package's; a line of a ``console`` block begins with one of these or one of ours."""

FILES: Final = "-c kmsconn.toml"
ENDS: Final = {
    ".venv/bin/kmsconn demo --requests 6 | cat": 0,
    ".venv/bin/kmsconn validate -c bad.toml": 2,
    f".venv/bin/kmsconn validate {FILES}": 0,
    ".venv/bin/python -m pytest docs/examples/test_own_faults.py": 0,
    ".venv/bin/python docs/examples/embedded.py": 0,
    ".venv/bin/python docs/examples/supervised.py": 0,
    "kmsconn --help": 0,
    "kmsconn --version": 0,
    "kmsconn completion bash > kmsconn.completion": 0,
    "kmsconn config explain -c first-node.toml": 0,
    "kmsconn validate -c first-node.toml": 0,
    f"kmsconn validate {FILES}": 0,
}
"""Command lines that are run alone, with their exit statuses."""

BESIDE: Final = {
    "kmsconn health --endpoint http://127.0.0.1:9100/healthz": 0,
    f"kmsconn doctor {FILES}": 0,
    f"kmsconn requests list {FILES} --state failed": 0,
    f"kmsconn status {FILES}": 0,
    "curl -s http://127.0.0.1:46169/healthz": 0,
    'curl -s http://127.0.0.1:46169/metrics | grep -E "^kmsconn_(lag|ready|oldest|open|deferred)"': 0,
    'curl -X POST 127.0.0.1:9200/core0/fail -d \'{"code": "INTERNAL"}\'': 0,
    "curl 127.0.0.1:9200/faults": 0,
    "curl -X DELETE 127.0.0.1:9200/core0/fail": 0,
    "curl 127.0.0.1:9200/status": 0,
}
"""Command lines that are run beside a running connector with emulated dependencies."""

STAYS: Final = (
    ".venv/bin/kmsconn emulate --write-config kmsconn.toml --rate 5 --duration 60",
    "kmsconn emulate --write-config kmsconn.toml --rate 10 --duration 3600 --control 9200",
    ".venv/bin/kmsconn emulate --profile httpz-rc7 --write-config httpz.toml --rate 4 --forms public user --duration 60 --log",
    f".venv/bin/kmsconn run {FILES}",
    f"kmsconn run {FILES}",
)
"""Command lines that are started, and ended once they have done their work."""

PARSED: Final = {
    "openssl rand -hex 32 > relayer-1.key": "openssl is on no list of what the tests need",
    "tr -d '\\n' < relayer-1.key | openssl dgst -sha256": "openssl is on no list of what the tests need",
    ".venv/bin/kmsconn demo --kinds all | tail": "forty seconds; tests of the demonstration play it in virtual time",
    ".venv/bin/kmsconn demo --profile httpz-rc7": "300 requests of another generation, played in virtual time elsewhere",
    "kmsconn demo": "shows a refusal without the extra, which tests/e2e/test_installations.py brings about",
    "kmsconn audit export audit.jsonl --since 2026-01-01 --until 2026-02-01 --kind user_decryption "
    "--csv": "tests/unit/operate/commands/test_operating.py",
    "kmsconn audit verify audit.jsonl.000001 audit.jsonl": "tests/e2e/test_operating_process.py",
    "kmsconn config import -o kmsconn.toml gw-listener.toml kms-worker.toml "
    "tx-sender.toml": "tests/unit/operate/commands/test_cli_config.py",
    "kmsconn doctor --network testnet --json": "needs nodes of a real network",
    "kmsconn emulate --write-config emu.toml --members 4 --rate 5 --duration 60": "tests/e2e/test_emulating_page.py",
    "kmsconn emulate --write-config emu.toml --shards 2 --core-release 0.14 0.16": "tests/unit/operate/commands/test_cli_emulate.py",
    "kmsconn emulate --write-config own.toml --core http://127.0.0.1:50051 --signer 0x1111111111111111111111111111111111111111 "
    "--params test": "tests/e2e/test_emulating_page.py",
    "kmsconn emulate --write-config own.toml --core http://127.0.0.1:50051 --signer 0x1111111111111111111111111111111111111111 "
    "--kinds decryptions --ciphertexts ciphertexts.json --rate 1 --duration 60": "tests/e2e/test_emulating_page.py",
    "kmsconn explain ID": "a synopsis",
    "kmsconn journal copy sqlite:////var/lib/kmsconn/kmsconn.db postgresql://kmsconn@db.example/kmsconn --to-password-file "
    "/etc/kmsconn/journal_password": "tests/real/postgres/test_processes_over_postgres.py copies both ways",
    "kmsconn pause KIND [--reason TEXT]": "a synopsis",
    "kmsconn quarantine drop NAME [--reason TEXT]": "a synopsis",
    "kmsconn quarantine list [--limit N]": "a synopsis",
    "kmsconn quarantine retry NAME": "a synopsis",
    "kmsconn quarantine show NAME": "a synopsis",
    "kmsconn requests list -c first-node.toml": "asks the connector of the line before it",
    "kmsconn requests list [--kind KIND] [--state STATE] [--cause TEXT] [--limit N]": "a synopsis",
    "kmsconn requests retry --state failed [--kind KIND] [--cause TEXT]": "a synopsis",
    "kmsconn requests retry ID …": "a synopsis",
    "kmsconn requests show ID": "a synopsis",
    "kmsconn resume KIND": "a synopsis",
    "kmsconn run -c emu-$n.toml > run-$n.log 2>&1": "tests/e2e/test_emulating_page.py",
    "kmsconn run -c own.toml": "tests/e2e/test_emulating_page.py",
    "kmsconn run -c first-node.toml": "needs nodes of a real network",
    "kmsconn skip ID --reason TEXT": "a synopsis",
    "kmsconn status": "a synopsis: the configuration comes from -c or the environment",
    f"kmsconn top {FILES}": "draws on a terminal until it is ended; it has tests of its own",
    "kmsconn top --url http://10.0.0.5:9100 --token-file /etc/kmsconn/status_page_token": "needs a connector on another machine",
    "make bench": "measures for minutes on an idle machine",
    "make check": "this test is a part of it",
    "make coverage": "minutes",
    "make demo": "it runs `kmsconn demo`, for half a minute",
    "make hooks": "changes the checkout",
    "make one-request": "counts for a minute under a tracer",
    "make weight": "counts for a minute under a tracer",
    "make peers": "downloads, as root",
    "make quick": "this test would start itself",
    "make setup": "downloads; tests/e2e/test_installations.py plays it",
    "make soak": "half an hour",
    "make image": "minutes, as root",
    "make test": "this test is a part of it",
    "make wheel": "tests/e2e/test_installations.py builds it",
}
"""Command lines that are only parsed, with the reason or the test that runs them; ``make`` stands without its variables."""

PLACEHOLDERS: Final = {
    "KIND": "user_decryption",
    "STATE": "failed",
    "TEXT": "INTERNAL",
    "N": "5",
    "ID": "0x0201",
}
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LANGUAGES = frozenset(("", "console", "sh"))
_LOOP = re.compile(r"^for .*?; do (.*?) (?:& )?done$")
_COMMENT = re.compile(r"\s+#\s.*$")


@attrs.frozen
class Command:
    """A command line of a page, without prompt and comment."""

    page: str
    text: str

    @property
    def program(self) -> str:
        """The first word."""
        return self.text.split()[0]

    @property
    def words(self) -> list[str]:
        """The words for the program itself, with values for placeholders."""
        text = re.sub(r"[\[\]…]", " ", self.text) if "[" in self.text or "…" in self.text else self.text
        words = shlex.split(re.split(r" [|>&]", text)[0])
        return [PLACEHOLDERS.get(word, word) for word in words[1:]]

    @property
    def reason(self) -> str | None:
        """Why it is only parsed; None: it is run."""
        text = " ".join(self.text.split()[:2]) if self.program == "make" else self.text
        return PARSED.get(text)


@cache
def commands() -> tuple[Command, ...]:
    """Return the command lines of all pages in the order of the pages."""
    return tuple(command for page in PAGES for command in _commands_of(page))


def _commands_of(page: Path) -> Iterator[Command]:
    name = str(page.relative_to(ROOT))
    for language, block in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language in _LANGUAGES:
            for line in block.splitlines():
                if (text := _command_in(line.strip(), prompted=language == "console")) is not None:
                    yield Command(name, text)


def _command_in(line: str, *, prompted: bool) -> str | None:
    if prompted and not line.startswith("$ "):
        return None
    line = _LOOP.sub(r"\1", _COMMENT.sub("", line.removeprefix("$ ")))
    words = line.removesuffix(" &").split()
    known = bool(words) and (words[0] in OURS or words[0] in OTHERS)
    return " ".join(words) if prompted or known else None


def ours() -> list[Command]:
    """Return the command lines of this package: kmsconn, make, and Python with a file or module of the repository."""
    return [command for command in commands() if command.program in OURS]
