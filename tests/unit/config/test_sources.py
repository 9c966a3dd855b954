"""Settings from a file and the environment: who wins, every fault with its place, and no secret in any text."""

from __future__ import annotations

import json
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from kmsconn.config.description import AttestationMode, CompressedKeySets, LogFormat, PostgresAddress, Secret
from kmsconn.config.parties import Chain, Contract, CoreTls, HostChain
from kmsconn.config.settings import GROUP_OF, Settings
from kmsconn.config.sources import load_config, read_sources
from kmsconn.errors import ConfigError
from kmsconn.ethereum.addresses import parse_address
from tests.unit.config.sample_values import ACL, COMPLETE, KEY, faults_of, load, warnings_of, write_toml


def test_a_complete_file_needs_no_environment_and_gives_no_warning(tmp_path: Path) -> None:
    assert load(tmp_path).warnings == ()
    assert load(tmp_path) == Settings.of(
        gateway=Chain(10901, ("http://127.0.0.1:8546",)),
        ethereum=Chain(11155111, ("http://127.0.0.1:8545",)),
        host_chains=(HostChain(Chain(11155111, ("http://127.0.0.1:8545",)), parse_address(ACL)),),
        decryption_contract=Contract(parse_address(COMPLETE["decryption_contract.address"]), "Decryption"),
        gateway_config_contract=Contract(
            parse_address(COMPLETE["gateway_config_contract.address"]), "GatewayConfig"
        ),
        protocol_config_contract=Contract(
            parse_address(COMPLETE["protocol_config_contract.address"]), "ProtocolConfig"
        ),
        kms_generation_contract=Contract(
            parse_address(COMPLETE["kms_generation_contract.address"]), "KMSGeneration"
        ),
        core_endpoints=("http://127.0.0.1:50051",),
        private_key=Secret(KEY),
    )


def environment_form(value: Any) -> str:
    if isinstance(value, list):
        return json.dumps(value) if isinstance(value[0], dict) else ",".join(value)
    return str(value)


def test_the_environment_alone_gives_the_same_settings(tmp_path: Path) -> None:
    environ = {
        "KMS_CONNECTOR_" + name.upper().replace(".", "__"): environment_form(value)
        for name, value in COMPLETE.items()
    }
    assert load_config(environ=environ) == load(tmp_path)


VARIABLE = "KMS_CONNECTOR_"
CHAINS = json.dumps([{"url": "http://a,ws://b", "chainId": 5, "aclAddress": ACL}])
THEIRS = "postgres://db/environment"

OF_CHARTS = (
    "KMS_VERIFIER_ADDRESS ETHEREUM_ACL_ADDRESS POLYGON_URL POLYGON_CHAIN_ID POLYGON_ACL_ADDRESS BNB_TESTNET_URL BNB_TESTNET_CHAIN_ID "
    "BNB_TESTNET_ACL_ADDRESS ENDPOINT_CONNECT_TIMEOUT ENDPOINT_RESPONSE_TIMEOUT ENDPOINT_IDLE_TIMEOUT ENDPOINT_HEALTHCHECK_FREQUENCY "
    "REQUEST_READ_TIMEOUT"
).split()

# Options of the file, and of the environment; what is looked at, and what is there then; which places are warned about.
FOUND: dict[str, tuple[dict[str, Any], dict[str, str], str, Any, list[str]]] = {
    "the environment wins over the file": (
        {"decryption_polling": "1s"}, {"DECRYPTION_POLLING": "250ms"}, "reading.decryption_polling", 0.25, [],
    ),
    "its host chains replace those of the file": (
        {}, {"HOST_CHAINS": CHAINS}, "chains.host_chains", (HostChain(Chain(5, ("http://a", "ws://b")), parse_address(ACL)),), [],
    ),
    "a nested option": ({"pools.user_decryption": 5}, {}, "work.pools.user_decryption", 5, []),
    "the default beside it": ({"pools.user_decryption": 5}, {}, "work.pools.public_decryption", 128, []),
    "a nested variable": ({}, {"DEADLINES__GATHER": "7s"}, "work.deadlines.gather", 7.0, []),
    "an empty domain version stays empty": (
        {"decryption_contract.domain_version": ""}, {}, "protocol.decryption_contract.domain_version", "", [],
    ),
    "a websocket beside an http url comes first": (
        {"gateway_ws_url": "ws://g"}, {}, "chains.gateway.urls", ("ws://g", "http://127.0.0.1:8546"), [],
    ),
    "of ethereum, too": (
        {"ethereum_ws_url": "wss://e"}, {}, "chains.ethereum.urls", ("wss://e", "http://127.0.0.1:8545"), [],
    ),
    "a wrong name of the samples": (
        {}, {"KMS_GENERATION_POLLING": "7s"}, "reading.key_management_polling", 7.0, ["KMS_GENERATION_POLLING"],
    ),
    "another one": (
        {}, {"KMS_FROM_BLOCK_NUMBER": "7"}, "reading.kms_operation_from_block_number", 7, ["KMS_FROM_BLOCK_NUMBER"],
    ),
    "the wrong name of the domain version": (
        {}, {"DECRYPTION_DOMAIN_VERSION": "2"}, "protocol.decryption_contract.domain_version", "2", ["DECRYPTION_DOMAIN_VERSION"],
    ),
    "the right name wins over its alias in one source": (
        {"database_url": "sqlite:////alias.db", "journal": "sqlite:////right.db"}, {},
        "storage.journal", Path("/right.db"), ["database_url"],
    ),
    "an alias in the environment wins over the file": (
        {"journal": "sqlite:////file.db"}, {"DATABASE_URL": "sqlite:////e.db"}, "storage.journal", Path("/e.db"), [],
    ),
    # it is left over from a migration: a connector must not go on with an empty journal for that
    "the database of the three services does not replace the journal of the file": (
        {"journal": "sqlite:////file.db"}, {"DATABASE_URL": THEIRS}, "storage.journal", Path("/file.db"), ["DATABASE_URL"],
    ),
    "but their database there": (
        {"database_url": "postgres://db/file"}, {"DATABASE_URL": THEIRS},
        "storage.journal.database", "environment", ["database_url", "DATABASE_URL"],
    ),
    "an empty variable counts as unset": ({}, {"GATEWAY_CHAIN_ID": ""}, "chains.gateway.chain_id", 10901, []),
    "and so does one of blanks, of an option with a default": (
        {}, {"DRAIN_GRACE": " "}, "work.drain_grace", 20.0, [],
    ),
    "and an unknown one": ({}, {"NO_SUCH_OPTION": ""}, "work.drain_grace", 20.0, []),
    "the grace of the proxy and the endpoint of 0.15": (
        {}, {"SHUTDOWN_GRACE_PERIOD": "7s"}, "work.drain_grace", 7.0, ["SHUTDOWN_GRACE_PERIOD"],
    ),
    "the address of the proxy of 0.15 is that of the HTTP API": (
        {}, {"PROXY_BIND_ADDRESS": "127.0.0.1:8443"}, "http_api.endpoint", "127.0.0.1:8443", ["PROXY_BIND_ADDRESS"],
    ),
    "that of its endpoint beside it only warns": (
        {}, {"PROXY_BIND_ADDRESS": "127.0.0.1:8443", "HTTP_ENDPOINT": "0.0.0.0:8080"},
        "http_api.endpoint", "127.0.0.1:8443", ["HTTP_ENDPOINT", "PROXY_BIND_ADDRESS"],
    ),
    **{
        f"of the charts, known and without effect: {name}": ({}, {name: "x"}, "chains.gateway.chain_id", 10901, [name])
        for name in OF_CHARTS
    },
    **{
        f"what kubernetes puts beside a service of that name: {name}": ({}, {name: "10.0.0.1"}, "chains.gateway.chain_id", 10901, [])
        for name in ("SERVICE_HOST", "PORT_9100_TCP_ADDR", "PORT")
    },
}  # fmt: skip


def environment(variables: dict[str, str]) -> dict[str, str]:
    return {VARIABLE + name: value for name, value in variables.items()}


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_of_both_sources_the_right_one_counts(tmp_path: Path, case: Any) -> None:
    changes, variables, path, expected, warned = case
    settings = load(tmp_path, changes, environment(variables))
    assert attrgetter(path)(settings) == expected
    assert [warning.place.removeprefix(VARIABLE) for warning in settings.warnings] == warned
    assert "is unknown" not in str(settings.warnings)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("journal", "sqlite:////var/lib/k.db", "journal", Path("/var/lib/k.db")),
        ("service_name", "node-7", "service_name", "node-7"),
        ("monitoring_endpoint", "127.0.0.1:0", "monitoring_endpoint", "127.0.0.1:0"),
        ("key_management_polling", "1m", "key_management_polling", 60.0),
        ("get_logs_batch_size", 7, "get_logs_batch_size", 7),
        ("decryption_from_block_number", 0, "decryption_from_block_number", 0),
        ("kms_operation_from_block_number", 9, "kms_operation_from_block_number", 9),
        ("ct_attestation.enabled", False, "attestation", AttestationMode.OFF),
        ("ct_attestation.enabled", True, "attestation", AttestationMode.SHADOW),
        ("attestation", "off", "attestation", AttestationMode.OFF),
        ("attestation", "enforce", "attestation", AttestationMode.ENFORCE),
        ("compressed_key_sets", True, "compressed_key_sets", CompressedKeySets.ALWAYS),
        ("compressed_key_sets", "false", "compressed_key_sets", CompressedKeySets.NEVER),
        ("compressed_key_sets", "auto", "compressed_key_sets", CompressedKeySets.AUTO),
        (
            "preprocessing_ids",
            {f"0x04{7:062x}": f"0x03{9:062x}"},
            "preprocessing_ids",
            {4 << 248 | 7: 3 << 248 | 9},
        ),
        ("ct_attestation.head_timeout", "2s", "attestation_head_timeout", 2.0),
        ("ct_attestation.registry_refresh", "30s", "registry_refresh", 30.0),
        ("s3_head_timeout", "2s", "attestation_head_timeout", 2.0),
        ("overlap", "9s", "reorg_window", 9.0),
        ("copro_registry_refresh", "30s", "registry_refresh", 30.0),
        ("s3_max_ciphertext_size", 1000, "max_ciphertext_size", 1000),
        ("max_ciphertext_size", "1MiB", "max_ciphertext_size", 1 << 20),
        ("trace_reverted_tx", False, "trace_reverted_tx", False),
        ("gas_multiplier_percent", 100, "gas_multiplier_percent", 100),
        ("allow_http_buckets", True, "allow_http_buckets", True),
        ("log_level", "warn", "log_level", "warning"),
        ("log_format", "json", "log_format", LogFormat.JSON),
        ("drain_grace", "0s", "drain_grace", 0.0),
        ("decryption_expiry", "12h", "decryption_expiry", 43200.0),
    ],
)
def test_an_option_becomes_its_setting(
    tmp_path: Path, name: str, value: Any, field: str, expected: object
) -> None:
    settings = load(tmp_path, {name: value})
    assert getattr(getattr(settings, GROUP_OF[field]), field) == expected


def test_tls_files_of_the_core(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    settings = load(tmp_path, {"core_tls.ca_file": str(tmp_path / "ca.pem")})
    assert settings.core.core_tls == CoreTls(ca_file=tmp_path / "ca.pem")


# --- faults


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    faults = faults_of(
        tmp_path,
        {
            "gateway_url": None,
            "ethereum_chain_id": "x",
            "decryption_polling": 5,
            "nonsense": 1,
            "private_key": "0x12",
        },
    )
    assert faults.keys() == {
        "gateway_url",
        "ethereum_chain_id",
        "decryption_polling",
        "nonsense",
        "private_key",
    }


def test_without_any_source_every_required_option_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={})
    assert {fault.place for fault in caught.value.faults} == COMPLETE.keys()


@pytest.mark.parametrize("name", [name for name in COMPLETE if name != "private_key"])
def test_a_missing_option_is_named_with_its_variable(tmp_path: Path, name: str) -> None:
    fault = faults_of(tmp_path, {name: None})[name]
    assert fault.message == "is required"
    assert "KMS_CONNECTOR_" in fault.remedy


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gateway_url", "gateway", "must be a URL"),
        ("gateway_url", 5, "must be text, not a number"),
        ("gateway_ws_url", "http://a", "ws://"),
        ("gateway_chain_id", 0, "at least 1"),
        ("gateway_chain_id", True, "whole number"),
        ("gateway_chain_id", "mainnet", "whole number"),
        ("decryption_contract.address", "0x5d8BD78e2ea6bbE41f26dFe9fdaEAa349e077478", "EIP-55"),
        ("decryption_contract.address", "5D8BD7", "40 hex digits"),
        ("decryption_contract.domain_name", 5, "text"),
        ("kms_core_endpoints", [], "empty"),
        ("kms_core_endpoints", ["http://core"], "host:port"),
        ("core_tls.ca_file", "/absent/ca.pem", "no file"),
        ("host_chains", [], "not empty"),
        ("host_chains", 5, "not empty"),
        ("profile", "httpz-rc8", "must be fhevm or httpz-rc7"),
        ("journal", "kmsconn.db", "sqlite:///"),
        ("journal", "postgresql://hunter2:hunter2@h", "names no database"),
        ("database_pool_size", 0, "at least 1"),
        ("roles", ["hear", "dance"], "hear, work, send"),
        ("lease", "200ms", "at least 1s"),
        ("service_name", " ", "empty"),
        ("monitoring_endpoint", "9100", "host:port"),
        ("healthcheck_timeout", "soon", "duration"),
        ("decryption_polling", "0ms", "longer than zero"),
        ("get_logs_batch_size", 0, "at least 1"),
        ("decryption_from_block_number", -1, "between 0"),
        ("pools.public_decryption", 0, "at least 1"),
        ("deadlines.answer", 75, "duration"),
        ("erc1271_gas_limit", 1.5, "whole number, not a fraction"),
        ("max_ciphertext_size", "much", "bytes"),
        ("attestation", "strict", "off or shadow or enforce"),
        ("ct_attestation.enabled", "perhaps", "off or shadow or enforce"),
        ("allow_http_buckets", "perhaps", "true or false"),
        ("gas_multiplier_percent", 99, "at least 100"),
        ("log_level", "loud", "debug or info"),
        ("log_format", "xml", "auto or console or json"),
        ("private_key", "0x00", "64 hex digits"),
        ("private_key", 5, "must be text"),
    ],
)
def test_a_faulty_value_is_named_by_its_place(tmp_path: Path, name: str, value: Any, message: str) -> None:
    faults = faults_of(tmp_path, {name: value})
    assert list(faults) == [name]
    assert message in faults[name].message


GOOD = COMPLETE["host_chains"][0]
TABLE = (
    "its options are pools.public_decryption, pools.user_decryption, pools.http_public_decryption, pools.http_user_decryption, "
    "pools.key_generation, pools.aborts, pools.protocol_config"
)

# Options of the file, and of the environment → the places that are named, each with parts of what is said, and of the remedy.
NAMED: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, tuple[str, str]]]] = {
    "a variable": ({}, {"POOLS__USER_DECRYPTION": "many"}, {VARIABLE + "POOLS__USER_DECRYPTION": ("", "")}),
    "within a host chain": (
        {"host_chains": [GOOD, {"url": "x", "chain_id": 2, "acl_adress": ACL}]}, {},
        {
            "host_chains[1].url": ("", ""),
            "host_chains[1].acl_address": ("is required", ""),
            "host_chains[1].acl_adress": ("", "did you mean acl_address?"),
        },
    ),
    "a host chain that is no table": ({"host_chains": [5]}, {}, {"host_chains[0]": ("table", "")}),
    "a chain that is listed twice": (
        {"host_chains": [GOOD, {**GOOD, "url": "http://other"}]}, {},
        {"host_chains[1].chain_id": ("11155111 is listed twice", "host_chains[0]")},
    ),
    "host chains that are no json": (
        {}, {"HOST_CHAINS": "[{url: http://hunter2}]"}, {VARIABLE + "HOST_CHAINS": ("JSON array", "")},
    ),
    "an unknown option": (
        {"gatway_url": "http://x"}, {}, {"gatway_url": ("is unknown", "did you mean gateway_url?")},
    ),
    "a value where a table belongs": ({"pools": 5}, {}, {"pools": ("is a table", TABLE)}),
    "another word for compressed key sets": (
        {"compressed_key_sets": "perhaps"}, {}, {"compressed_key_sets": ("must be auto, true or false, not 'perhaps'", "")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED.values(), ids=NAMED)
def test_a_fault_is_named_with_what_to_do(tmp_path: Path, case: Any) -> None:
    changes, variables, expected = case
    faults = faults_of(tmp_path, changes, environment(variables))
    assert faults.keys() == expected.keys()
    for place, (said, remedy) in expected.items():
        assert said in faults[place].message
        assert remedy in faults[place].remedy
    assert "hunter2" not in str(faults)


SOLANA_ID = 0x01 << 56 | 900
OF_SOLANA: dict[str, dict[str, Any]] = {
    "as the chart renders it": {
        "url": "http://solana", "chainId": SOLANA_ID, "chainKind": "solana", "solanaHostProgramId": "So1ana",
        "solanaProofEndpoints": ["http://proofs"], "solanaProofApiKey": "hunter2",
    },
    "in our spelling": {"url": "http://solana", "chain_id": SOLANA_ID, "chain_kind": "Solana"},
    "by its chain id alone": {"chain_id": SOLANA_ID},
    "by its kind alone": {"url": "http://solana", "chain_id": 900, "chain_kind": "solana"},
}  # fmt: skip


@pytest.mark.parametrize("entry", OF_SOLANA.values(), ids=OF_SOLANA)
@pytest.mark.parametrize("is_served_over_http", [False, True])
def test_a_host_chain_of_solana_is_accepted_and_not_served(
    tmp_path: Path, entry: dict[str, Any], is_served_over_http: bool
) -> None:
    chain_id = entry.get("chain_id", entry.get("chainId"))
    environ = {"KMS_CONNECTOR_HOST_CHAINS": json.dumps([GOOD, entry])}
    if is_served_over_http:
        environ["KMS_CONNECTOR_HTTP_ENDPOINT"] = "127.0.0.1:8443"
        environ["KMS_CONNECTOR_SUPPORTED_CHAIN_IDS"] = f"11155111,{chain_id}"
    settings = load(tmp_path, environ=environ)
    assert [host.chain.chain_id for host in settings.chains.host_chains] == [11155111]
    assert settings.chains.not_served == {chain_id: 1}
    [warning] = settings.warnings
    assert warning.place == "KMS_CONNECTOR_HOST_CHAINS[1]"
    assert "not served by this version" in warning.message
    assert "hunter2" not in repr(settings)
    if settings.http_api is not None:
        assert settings.http_api.supported_chain_ids == {11155111}


def test_an_entry_of_solana_without_a_chain_id_or_of_another_kind_is_a_fault(tmp_path: Path) -> None:
    entries = [GOOD, {"chain_kind": "solana"}, {**GOOD, "chain_id": 5, "chain_kind": "cosmos"}]
    faults = faults_of(tmp_path, {"host_chains": entries})
    assert faults["host_chains[1]"].message == "its chain_id is required"
    assert "evm or solana" in faults["host_chains[2].chain_kind"].message


def test_an_entry_may_say_that_its_chain_is_of_evm(tmp_path: Path) -> None:
    assert load(tmp_path, {"host_chains": [{**GOOD, "chain_kind": "evm"}]}) == load(tmp_path)


def test_half_a_client_certificate_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "c.pem").touch()
    faults = faults_of(tmp_path, {"core_tls.certificate_file": str(tmp_path / "c.pem")})
    assert list(faults) == ["core_tls.key_file"]


def test_the_database_of_the_three_services_is_the_journal_and_a_warning_says_of_what(tmp_path: Path) -> None:
    url = "postgresql://hunter2:hunter2@db/hunter2"
    settings = load(tmp_path, environ={"KMS_CONNECTOR_DATABASE_URL": url})
    warning = str(settings.warnings[0])
    assert "tables of its own" in warning
    assert "hunter2" not in warning
    assert settings.storage.journal == PostgresAddress(
        "hunter2", ("db",), (), "hunter2", Secret("hunter2"), {"options": "-csearch_path=kmsconn"}
    )


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("postgres://db/k?sslmode=require", "-csearch_path=kmsconn"),
        ("postgres://db/k?options=-csearch_path%3Dmine", "-csearch_path=mine"),
    ],
)
def test_its_tables_stand_in_a_schema_of_their_own(tmp_path: Path, url: str, options: str) -> None:
    journal = load(tmp_path, {"database_url": url}).storage.journal
    assert isinstance(journal, PostgresAddress)
    assert journal.parameters["options"] == options


@pytest.mark.parametrize(
    ("name", "value", "option", "expected"),
    [
        ("chain_id", 7, "gateway_chain_id", 7),
        ("kms_core_endpoint", "http://127.0.0.1:5", "kms_core_endpoints", ("http://127.0.0.1:5",)),
        ("from_block_number", 12, "decryption_from_block_number", 12),
        ("healthcheck_timeout_secs", 4, "healthcheck_timeout", 4.0),
        ("decryption_polling_ms", "200", "decryption_polling", 0.2),
        ("key_management_polling_ms", 7000, "key_management_polling", 7.0),
    ],
)
def test_a_name_before_0_14_is_taken_for_its_option(
    tmp_path: Path, name: str, value: Any, option: str, expected: Any
) -> None:
    reading = read_sources(write_toml(tmp_path, {option: None, name: value}), environ={})
    assert reading.values[option] == expected
    assert [warning.remedy for warning in reading.findings.warnings] == [f"taken as {option}"]


def test_a_file_that_is_not_there_or_not_text_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_config(tmp_path / "absent.toml", environ={})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "binary.toml", environ={})


def test_a_file_that_is_no_toml_names_the_line_and_quotes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(f'gateway_chain_id = 1\nprivate_key = "{KEY}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"is not TOML: .*line 2") as caught:
        load_config(path, environ={})
    assert len(caught.value.faults) == 1  # what it would have said cannot be called missing
    assert KEY[:8] not in str(caught.value)


@pytest.mark.parametrize("name", list(COMPLETE))
def test_no_fault_and_no_repr_shows_a_secret_pasted_into_any_option(tmp_path: Path, name: str) -> None:
    """A key or a URL with a password may stand in the wrong place."""
    for secret in (f"0x{KEY}00", f"ftp://user:{KEY}@host/{KEY}?key={KEY}"):
        faults = faults_of(tmp_path, {name: secret})
        assert faults
        assert KEY[:6] not in repr(faults) + "".join(map(str, faults.values()))


def test_no_secret_stands_in_the_repr_of_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, {"gateway_url": "http://user:hunter2@gateway/hunter2"})
    assert KEY not in repr(settings)
    assert "hunter2" not in repr(settings)


# --- warnings


@pytest.mark.parametrize(
    ("changes", "variables", "message", "remedy"),
    [
        ({}, {"DECRYPTION_POLING": "1s"}, "", "did you mean decryption_polling?"),
        ({}, {"DECRYPTION_DOMAIN_VERSION": "2"}, "", "decryption_contract.domain_version"),
        *(
            ({name: 5}, {}, "has no effect", "")
            for name in ("task_limit", "tx_retries", "gauge_update_interval", "host_rpc_call_timeout")
        ),
    ],
)
def test_a_warning_says_what_is_right(
    tmp_path: Path, changes: dict[str, Any], variables: dict[str, str], message: str, remedy: str
) -> None:
    [warning] = load(tmp_path, changes, environment(variables)).warnings
    assert warning.remedy
    assert message in warning.message
    assert remedy in warning.remedy


def test_a_file_with_a_key_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    path = write_toml(tmp_path, mode=0o644)
    assert [warning.place for warning in load_config(path, environ={}).warnings] == [str(path)]
    write_toml(tmp_path, {"private_key": None}, mode=0o644)
    assert load_config(path, environ={"KMS_CONNECTOR_PRIVATE_KEY": KEY}).warnings == ()


def test_a_journal_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    journal = tmp_path / "journal.db"
    journal.touch(mode=0o644)
    assert str(journal) in warnings_of(tmp_path, {"journal": f"sqlite:///{journal}"})
