"""Secrets that stand in a configuration, looked for in everything that a real connector writes and says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import httpx2
import pytest
import trio

from tests.e2e.test_cli_process import PATIENCE, kmsconn, running, until
from tests.e2e.test_process import scene

pytestmark = pytest.mark.sampled

SECRET = "hunter2"
TOKEN = f"{SECRET}-of-a-viewer-0123456789"
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


@attrs.define
class Outputs:
    """What was said, by who said it."""

    texts: dict[str, str] = attrs.field(factory=dict)

    def hits(self, *secrets: str) -> dict[str, str]:
        """Return who said a secret, with the words around it."""
        found = {}
        for name, text in self.texts.items():
            for secret in secrets:
                if (at := text.lower().find(secret.lower())) >= 0:
                    found[name] = text[max(0, at - 60) : at + 20]
        return found


def planted(config: Path) -> tuple[Path, str]:
    """Write the emulator's configuration again with a secret in each URL and file; return its path and the key that it holds."""
    text = config.read_text(encoding="utf-8")
    text = re.sub(
        r"(ws)://([\d.]+:\d+)", rf"\1://{SECRET}user:{SECRET}word@\2/{SECRET}path?key={SECRET}query", text
    )
    token, audit = config.with_name("token"), config.with_name("audit.jsonl")
    token.write_text(TOKEN)
    token.chmod(0o600)
    text += (
        f'log_level = "debug"\nlog_format = "json"\nstatus_page_token_file = "{token}"\nstatus_page = "on"\n'
    )
    text += AUDIT.format(audit)
    made = config.with_name("planted.toml")
    made.write_text(text, encoding="utf-8")
    made.chmod(0o600)
    (key,) = re.findall(r'private_key = "(?:0x)?(\w+)"', text)
    return made, key


AUDIT = 'audit_log = "{}"\n'


@pytest.fixture(autouse=True)
def _secret_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with secrets where other programs expect them."""
    for name, value in {
        "HTTPS_PROXY": f"http://{SECRET}:{SECRET}@127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{SECRET}:{SECRET}@127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {SECRET}",
    }.items():
        monkeypatch.setenv(name, value)


async def said(*arguments: str) -> str:
    """Run a command and return all that it prints."""
    _, out, err = await kmsconn(*arguments)
    return out + err


async def keep_lines(lines: AsyncIterator[dict[str, object]], outputs: Outputs) -> None:
    async for line in lines:
        outputs.texts["log"] += json.dumps(line) + "\n"


async def test_no_secret_is_ever_said(tmp_path: Path) -> None:
    """Logs at debug, metrics, health, the page's data, the journal, the audit log, and every command that explains something."""
    outputs = Outputs({"log": ""})
    with trio.fail_after(3 * PATIENCE):
        async with scene(tmp_path, "--computing", "0.2", reply_timeout=3 * PATIENCE) as emulated:
            path, key = planted(emulated.config)
            async with running(path) as (process, lines), trio.open_nursery() as nursery:
                url = str((await until(lines, "started"))["monitoring"])
                nursery.start_soon(keep_lines, lines, outputs)
                while "reply_included" not in outputs.texts["log"]:  # noqa: ASYNC110 - another process writes it
                    await trio.sleep(0.05)
                await ask_everything(url, path, outputs)
                process.terminate()
                await process.wait()
            await ask_about(path, outputs)
            outputs.texts |= files_of(tmp_path)
            emulated.emulator.terminate()
    assert {
        "log",
        "/metrics",
        "/status.json",
        "doctor",
        "explain",
        f"file {emulated.journal.name}",
    } <= outputs.texts.keys()
    assert "file audit.jsonl" in outputs.texts
    assert all(outputs.texts[name] for name in ("log", "/metrics", "/status.json", "doctor", "explain"))
    assert outputs.hits(SECRET, key, bytes.fromhex(key).decode("latin-1")) == {}


def files_of(folder: Path) -> dict[str, str]:
    """Return what the connector wrote: the journal and whatever lies beside it, without the configuration that was planted."""
    given = {"kmsconn.toml", "planted.toml", "token"}
    written = [file for file in folder.iterdir() if file.is_file() and file.name not in given]
    return {f"file {file.name}": file.read_bytes().decode("latin-1") for file in written}


async def ask_everything(url: str, path: Path, outputs: Outputs) -> None:
    """Ask the monitoring address of a running connector, then the commands beside it."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(trust_env=False, headers=headers) as client:
        for page in (
            "/metrics",
            "/healthz",
            "/liveness",
            "/version",
            "/status",
            "/status.js",
            "/status.json",
            "/status/requests/1",
        ):
            outputs.texts[page] = (await client.get(f"{url}{page}")).text
    await ask_about(path, outputs, "beside ")


BESIDE = {"doctor": ("doctor",), "status": ("status",), "explain": ("explain", "1")}
STOPPED = BESIDE | {
    "validate": ("validate",),
    "config explain": ("config", "explain", "--all"),
    "requests": ("requests", "list"),
    "replay": ("replay", "1", "--dry-run"),
}


async def ask_about(path: Path, outputs: Outputs, when: str = "") -> None:
    """Run the commands that say something about a connector, running or stopped."""
    for name, words in (BESIDE if when else STOPPED).items():
        outputs.texts[f"{when}{name}"] = await said(*words, "-c", str(path))


async def test_a_mnemonic_is_never_said(tmp_path: Path) -> None:
    path = tmp_path / "httpz.toml"
    path.write_text(
        f'profile = "httpz-rc7"\ngwl2_url = "ws://{SECRET}@127.0.0.1:9/{SECRET}"\nkms_core_endpoint = "http://127.0.0.1:9"\n'
        f'mnemonic = "{WORDS}"\nchain_id = 31337\nhttpz_address = "0x0000000000000000000000000000000000000001"\n'
        'decision = 1\ndecryption_manager_address = "0x5FbDB2315678afecb367f032d93F642f64180aa3"\n'
    )
    path.chmod(0o600)
    outputs = Outputs()
    for words in (("validate",), ("config", "explain", "--all"), ("doctor",), ("run",)):
        outputs.texts[" ".join(words)] = await said(*words, "-c", str(path))
    assert all(outputs.texts.values())
    assert outputs.hits(SECRET, WORDS, "sausage") == {}
