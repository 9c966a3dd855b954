"""The reference and the sample file of the options, which ``make gen`` writes into docs/."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import attrs

from kmsconn.config.description import REQUIRED, Described, Form, Role, Section, fields_of
from kmsconn.config.httpz import HTTPZ_RC7
from kmsconn.config.networks import NETWORKS, Network, preset
from kmsconn.config.options import FHEVM, OptionTable
from kmsconn.config.settings import Settings
from kmsconn.ethereum.addresses import Address, checksum

DOCS = Path(__file__).parents[1] / "docs"
_WIDTH = 100

_INTRODUCTION = """\
# Options

<!-- Printed by `make gen` from the settings in kmsconn/config; a test fails when it is stale. -->

One configuration serves one process. A later source overrides an earlier one: the defaults, the TOML file (`-c`), the environment. The
variable of an option is `KMS_CONNECTOR_` and its name in upper case, `__` for a dot. Relative paths begin in the folder of the file that
has them, those of variables in the working directory. All faults are reported at once, each with its
place; an unknown name is a fault. Durations are texts such as `500ms`, `5m`, `24h`; sizes are numbers of bytes or texts such as `66MiB`;
amounts are numbers of wei or texts such as `50 gwei` and `0.5 ether`.
"""

_NETWORKS = """\
## Networks

`network` in the file, or `--network NAME` of a command, which wins (`load_config(network=…)`), fills in the published values of a
deployment; all other options override them. Without `host_chains` Ethereum is the only host chain, by `ethereum_url`; listed ones get
their ACL. The charts of 0.14 give KMSVerifier's address as ProtocolConfig's. The start asks the configured ProtocolConfig for its current
context and epoch, and fails with the address to use if another contract answers.
"""

_HTTPZ = """
## The generation httpz-rc7

`profile = "httpz-rc7"` (or `KMS_CONNECTOR_PROFILE`) selects the options of that generation, with its names and
defaults, and the shared options. `kmsconn validate -c FILE` then checks the file alone, without the environment: options
marked *file* must be in it. Empty values count as unset. Addresses may use any letter case. Of several wallets the first counts, in
this order: `aws_kms_config`, `signing_key_path`, `private_key`, `private_key_file`, `mnemonic`.
"""

_EXIT = """
## Exit status

| status | meaning |
|---|---|
| 0 | success: drained, or no faults |
| 1 | crashed; `kmsconn doctor`: something is at fault |
| 2 | wrong usage, or faults in the configuration |
| 3 | refused to start: wrong chain id, zero threshold, a foreign or locked journal, a monitoring address in use |
"""

_SAMPLE_INTRODUCTION = """\
# kmsconn: a sample configuration. Required options have an example, the others are comments with their default.
# The environment can set every option: KMS_CONNECTOR_ and its name in upper case, __ for a dot.
# Check it with: kmsconn validate -c FILE
"""


_TESTNET = NETWORKS["testnet"]
EXAMPLES: Final[Mapping[str, str]] = {
    "network": '"testnet"',
    "gateway_url": '"https://gateway.example:8547"',
    "gateway_ws_url": '"wss://gateway.example:8548"',
    "gateway_chain_id": "10901",
    "ethereum_url": '"https://ethereum.example:8545"',
    "ethereum_ws_url": '"wss://ethereum.example:8546"',
    "ethereum_chain_id": "11155111",
    "host_chains": (
        '[\n  { url = "https://ethereum.example:8545", chain_id = 11155111, '
        'acl_address = "0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D" },\n]'
    ),
    "kms_core_endpoints": '["http://127.0.0.1:50051"]',
    "core_tls.ca_file": '"/etc/kmsconn/core-ca.pem"',
    "core_tls.certificate_file": '"/etc/kmsconn/client.pem"',
    "core_tls.key_file": '"/etc/kmsconn/client.key"',
    "private_key": '"0x…"',
    "private_key_file": '"/etc/kmsconn/private_key"',
    "signing_key_path": '"/etc/kmsconn/signing_key"',
    "mnemonic": '"…"',
    "account_index": "0",
    "aws_kms_config.key_id": '"alias/tx-sender"',
    "aws_kms_config.region": '"eu-west-1"',
    "aws_kms_config.endpoint": '"http://127.0.0.1:4566"',
    "tx_sender_address": '"0x742d35cc6634c0532925a3b844bc454e4438f44e"',
    "journal_password_file": '"/etc/kmsconn/journal_password"',
    "control_socket": '"/run/kmsconn/control.sock"',
    "audit_log": '"/var/lib/kmsconn/audit.jsonl"',
    "status_page_token_file": '"/etc/kmsconn/status_page_token"',
    "decryption_from_block_number": "1000000",
    "kms_operation_from_block_number": "7000000",
    "preprocessing_ids": '{ "0x04…" = "0x03…" }',
    "decryption_expiry": '"1h"',
    "http_endpoint": '"0.0.0.0:8443"',
    "tls_config.cert_path": '"/etc/kmsconn/http.pem"',
    "tls_config.key_path": '"/etc/kmsconn/http.key"',
    "api_keys_file": '"/etc/kmsconn/api_keys.toml"',
    "api_key_digest": '"…"',
    "supported_chain_ids": "[11155111]",
    "decryption_contract.address": f'"{_TESTNET.decryption}"',
    "gateway_config_contract.address": f'"{_TESTNET.gateway_config}"',
    "protocol_config_contract.address": f'"{_TESTNET.protocol_config}"',
    "kms_generation_contract.address": f'"{_TESTNET.kms_generation}"',
}
"""What the sample file says of options without a default, as TOML."""


_CONTRACTS: Final = {
    "decryption_contract": "Decryption contract on the Gateway",
    "gateway_config_contract": "GatewayConfig contract on the Gateway",
    "protocol_config_contract": "ProtocolConfig contract on Ethereum",
    "kms_generation_contract": "KMSGeneration contract on Ethereum",
}
"""What the settings of a contract call ``{about}``."""

_OF_HTTPZ: Final = {
    "gwl2_url": "JSON-RPC of the gateway, `ws(s)` or `http(s)`: one, a comma list, or a list in order of preference.",
    "chain_id": "Chain id of the gateway. The connector compares it with the node's before it uses the node.",
    "decryption_manager_address": "Address of the DecryptionManager.",
    "httpz_address": "Address of HTTPZ.",
    "key_manager_address": "Address of the KeyManager. Default: `httpz_address`, as in that generation's connector.",
    "kms_core_endpoint": "The gRPC endpoint of this node's Core, `http://host:port`: one, a comma list, or a list. The id of a request "
    "selects the endpoint.",
    "service_name": "Name in logs and at `/version`; `--name` overrides it. A number after its last dash is the mnemonic's account.",
}
"""What options mean otherwise in the generation httpz-rc7."""

_MEANING: Final = re.compile(r"^(\w+): (.*(?:\n[ ].*)*)", re.MULTILINE)


def _meanings(cls: type[attrs.AttrsInstance], section: Section) -> Iterator[tuple[str, str]]:
    """Yield what each option means, from the docstring of its class."""
    said = dict(_MEANING.findall(inspect.cleandoc(cls.__doc__ or "")))
    for field in fields_of(cls):
        if isinstance(field.kind, Form):
            about = _CONTRACTS.get(section.prefix, "")
            yield section.name_of(field.option), " ".join(said[field.name].split()).replace("{about}", about)
        elif isinstance(field.kind, Section):
            yield from _meanings(field.type, field.kind)
        else:
            yield from _meanings(field.kind.options, field.kind.section)


def meanings(table: OptionTable) -> dict[str, str]:
    """Return what each option of a generation means."""
    found = {table.named(name): meaning for name, meaning in _meanings(Settings, Section())}
    return {**found, **(_OF_HTTPZ if table is HTTPZ_RC7 else {})}


def toml_value(option: Described) -> str:
    """Write the default of an option as TOML, or its example where it has no default."""
    default = option.default
    if default is REQUIRED or default is None:
        return EXAMPLES[option.name]
    if isinstance(default, frozenset):
        return json.dumps([role.value for role in Role])
    if option.form.write is not None:
        return f'"{option.form.write(default)}"'
    if isinstance(default, bool):
        return str(default).lower()
    return f'"{default}"' if isinstance(default, str) else str(default)


def reference() -> str:
    """Return the text of docs/options.md."""
    return "\n".join(_reference_lines())


def _reference_lines() -> Iterator[str]:
    yield _INTRODUCTION
    yield from _sections(FHEVM, "##")
    yield from _networks()
    yield "## Other names\n"
    yield "| name | option | |\n|---|---|---|"
    yield from (
        f"| `{one.name}` | `{one.option}` | {one.warning and 'with a warning'} |"
        for one in FHEVM.aliases.values()
    )
    yield "\n## Accepted without effect\n"
    yield "Options of the 0.14 and 0.15 services without a meaning here. Each causes a warning that names its replacement.\n"
    yield "| name | instead |\n|---|---|"
    yield from _accepted(FHEVM)
    yield _HTTPZ
    yield from _sections(HTTPZ_RC7, "###")
    yield "### Accepted without effect by httpz-rc7\n"
    yield "| name | instead |\n|---|---|"
    yield from _accepted(HTTPZ_RC7)
    yield _EXIT


def _sections(table: OptionTable, level: str) -> Iterator[str]:
    said = meanings(table)
    for title, options in table.sections.items():
        yield f"{level} {title}\n"
        yield "| option | form | default | meaning |\n|---|---|---|---|"
        for option in options:
            yield f"| `{option.name}` | {option.form.word} | {_default_text(option)} | {said[option.name]} |"
        yield ""


def _accepted(table: OptionTable) -> Iterator[str]:
    return (f"| `{one.name}` | {one.instead} |" for one in table.accepted.values())


def _networks() -> Iterator[str]:
    yield _NETWORKS
    yield "| option | " + " | ".join(f"`{name}`" for name in NETWORKS) + " |\n|---|" + "---|" * len(NETWORKS)
    shown = {name: _preset_texts(network) for name, network in NETWORKS.items()}
    for option in dict.fromkeys(option for texts in shown.values() for option in texts):
        cells = (texts.get(option, "–") for texts in shown.values())
        yield f"| `{option}` | {' | '.join(cells)} |"
    yield ""


def _preset_texts(network: Network) -> dict[str, str]:
    texts = {name: f"`{given.value}`" for name, given in preset(network).items()}
    return {**texts, **{f"ACL of {chain_id}": f"`{acl}`" for chain_id, acl in network.acls.items()}}


def _default_text(option: Described) -> str:
    if option.default is REQUIRED:
        return "required"
    if option.in_file:
        return f"{_value_text(option.default)}; *file*"
    return "–" if option.default is None else f"`{toml_value(option).strip(chr(34))}`"


def _value_text(default: Any) -> str:
    if isinstance(default, bytes):
        return f"`{checksum(Address(default))}`"
    return f"`{', '.join(default) if isinstance(default, tuple) else default}`"


def sample() -> str:
    """Return the text of docs/kmsconn.sample.toml."""
    return "\n".join(_sample_lines())


def _sample_lines() -> Iterator[str]:
    yield _SAMPLE_INTRODUCTION
    said = meanings(FHEVM)
    for title, options in FHEVM.sections.items():
        yield f"# {f' {title} ':-^{_WIDTH}}\n"
        for option in options:
            yield from (f"# {line}" for line in wrap(said[option.name].replace("`", ""), _WIDTH))
            yield f"{'' if option.default is REQUIRED else '#'}{option.name} = {toml_value(option)}\n"


def files() -> dict[Path, str]:
    """Return both texts with their places."""
    return {DOCS / "options.md": reference(), DOCS / "kmsconn.sample.toml": sample()}
