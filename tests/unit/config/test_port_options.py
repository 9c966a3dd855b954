"""Options of the port of decryptions and of the status page."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from kmsconn.config.http_api import ApiKeysFault, read_api_keys
from kmsconn.config.values import Secret, StatusPage
from kmsconn.config.working import ApiKey, HttpApi
from tests.unit.config.sample_values import faults_of, load, warnings_of

HERE, ANYWHERE = "127.0.0.1:8080", "0.0.0.0:8080"
DIGEST = hashlib.sha256(b"a key").hexdigest()
OTHER = hashlib.sha256(b"another key").hexdigest()


def key_file(folder: Path, text: str = f'[[keys]]\nid = "one"\nsha256 = "{DIGEST}"\n') -> str:
    path = folder / "keys.toml"
    path.write_text(text)
    return str(path)


def test_it_is_off_by_default(tmp_path: Path) -> None:
    assert load(tmp_path).http_api is None


def test_an_address_turns_it_on_with_the_originals_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, {"http_endpoint": HERE}).http_api == HttpApi(HERE, frozenset({11155111}))
    http = HttpApi(HERE, frozenset())
    assert (http.max_in_flight_decryptions, http.decryption_timeout, http.max_body_bytes) == (
        1000,
        30,
        1 << 20,
    )
    assert (http.max_decryption_request_bits, http.max_allowed_contracts) == (2048, 10)


def test_each_limit_is_set_by_its_name_in_the_original(tmp_path: Path) -> None:
    environ = {
        "KMS_CONNECTOR_HTTP_ENDPOINT": HERE,
        "KMS_CONNECTOR_MAX_IN_FLIGHT_DECRYPTIONS": "7",
        "KMS_CONNECTOR_DECRYPTION_TIMEOUT": "5s",
        "KMS_CONNECTOR_MAX_BODY_BYTES": "4096",
        "KMS_CONNECTOR_MAX_DECRYPTION_REQUEST_BITS": "64",
        "KMS_CONNECTOR_MAX_ALLOWED_CONTRACTS": "3",
        "KMS_CONNECTOR_SUPPORTED_CHAIN_IDS": "11155111",
        "KMS_CONNECTOR_API_KEY_DIGEST": DIGEST,
    }
    assert load(tmp_path, environ=environ).http_api == HttpApi(
        HERE,
        frozenset({11155111}),
        keys=(ApiKey("default", bytes.fromhex(DIGEST)),),
        key_digest=bytes.fromhex(DIGEST),
        max_in_flight_decryptions=7,
        decryption_timeout=5.0,
        max_body_bytes=4096,
        max_decryption_request_bits=64,
        max_allowed_contracts=3,
    )


@pytest.mark.parametrize("written", [[11155111], "11155111", "[11155111]", "11155111, 11155111"])
def test_chain_ids_are_a_list_or_its_text(tmp_path: Path, written: Any) -> None:
    http = load(tmp_path, {"http_endpoint": HERE, "supported_chain_ids": written}).http_api
    assert http is not None
    assert http.supported_chain_ids == {11155111}


def test_a_supported_chain_must_be_configured(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"http_endpoint": HERE, "supported_chain_ids": [5, 11155111]})
    assert "5: no such chain" in faults["supported_chain_ids"].message


def test_everybody_is_served_on_loopback_alone(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"http_endpoint": ANYWHERE})
    assert "everybody could ask" in faults["http_endpoint"].message
    assert "api_keys_file" in faults["http_endpoint"].remedy
    assert faults_of(tmp_path, {"http_endpoint": ANYWHERE, "http_without_keys": True}) == {}
    assert faults_of(tmp_path, {"http_endpoint": ANYWHERE, "api_key_digest": DIGEST}) == {}


def test_a_shadow_answers_nobody(tmp_path: Path) -> None:
    fault = faults_of(tmp_path, {"http_endpoint": HERE, "mode": "shadow"})["http_endpoint"]
    assert "a shadow answers nobody" in fault.message
    assert "leave http_endpoint out" in fault.remedy
    assert faults_of(tmp_path, {"mode": "shadow"}) == {}


def test_keys_without_tls_are_warned_about(tmp_path: Path) -> None:
    warnings = warnings_of(tmp_path, {"http_endpoint": ANYWHERE, "api_key_digest": DIGEST})
    assert "without TLS" in warnings["http_endpoint"].message


def test_options_without_an_address_have_no_effect_and_say_so(tmp_path: Path) -> None:
    assert "http_endpoint is not set" in str(warnings_of(tmp_path, {"max_body_bytes": 5})["max_body_bytes"])


def test_keys_are_read_from_their_file_with_their_limits(tmp_path: Path) -> None:
    text = f"""
[[keys]]
id = "one"
sha256 = "{DIGEST}"

[[keys]]
id = "two.b"
sha256 = "0x{OTHER}"
max_in_flight = 20
requests_per_second = 2.5
"""
    http = load(tmp_path, {"http_endpoint": ANYWHERE, "api_keys_file": key_file(tmp_path, text)}).http_api
    assert http is not None
    assert http.keys == (
        ApiKey("one", bytes.fromhex(DIGEST)),
        ApiKey("two.b", bytes.fromhex(OTHER), 20, 2.5),
    )


def test_all_faults_of_a_key_file_come_at_once_and_none_shows_a_digest(tmp_path: Path) -> None:
    text = f"""
[[keys]]
id = "one two"
sha256 = "{DIGEST}"

[[keys]]
sha256 = "a key in the wrong place"
limit = 3
requests_per_second = 0

[[keys]]
id = "three"
sha256 = "{DIGEST}"
max_in_flight = 0
"""
    faults = faults_of(tmp_path, {"http_endpoint": ANYWHERE, "api_keys_file": key_file(tmp_path, text)})
    assert [place.partition("), ")[2] for place in faults] == [
        "keys[0].id",
        "keys[1].sha256",
        "keys[1].limit",
        "keys[1].requests_per_second",
        "keys[1].id",
        "keys[2].max_in_flight",
        "keys[2].sha256",
    ]
    texts = " ".join(map(str, faults.values()))
    assert DIGEST not in texts
    assert "wrong place" not in texts


@pytest.mark.parametrize("text", ["", "keys = []", "keys = 3", "other = 1", "[[keys]", "[keys]\nid = 'a'"])
def test_a_file_without_keys_is_a_fault(text: str) -> None:
    with pytest.raises(ApiKeysFault):
        read_api_keys(text.encode())


def test_a_key_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert "api_keys_file" in faults_of(
        tmp_path, {"http_endpoint": HERE, "api_keys_file": str(tmp_path / "none")}
    )


def test_one_key_stands_in_one_place(tmp_path: Path) -> None:
    values = {"http_endpoint": HERE, "api_keys_file": key_file(tmp_path), "api_key_digest": DIGEST}
    assert "has this key" in faults_of(tmp_path, values)["api_key_digest"].message


def test_a_digest_that_is_none_is_not_shown(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"http_endpoint": HERE, "api_key_digest": "the key itself"})
    assert "the key itself" not in str(faults["api_key_digest"])


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("no PEM")
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    assert "is required" in str(
        faults_of(tmp_path, {"http_endpoint": HERE, "tls_config.cert_path": certificate})[
            "tls_config.key_path"
        ]
    )
    assert "is required" in str(
        faults_of(tmp_path, {"http_endpoint": HERE, "tls_config.key_path": key})["tls_config.cert_path"]
    )
    both = {"http_endpoint": HERE, "tls_config.cert_path": certificate, "tls_config.key_path": key}
    assert "belong together" in faults_of(tmp_path, both)["tls_config.cert_path"].message


def test_options_of_the_originals_proxy_start_unchanged(tmp_path: Path) -> None:
    values = {"http_endpoint": HERE, "endpoint_addresses": ["http://a:1"]}
    assert "this process" in warnings_of(tmp_path, values)["endpoint_addresses"].remedy


TOKEN = "0123456789abcdef"


def token_file(folder: Path, content: str = TOKEN, mode: int = 0o600) -> str:
    path = folder / "token"
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_by_default_there_is_no_token_and_loopback_alone_is_served(tmp_path: Path) -> None:
    monitoring = load(tmp_path, {}).monitoring
    assert (monitoring.status_page, monitoring.status_page_token) == (StatusPage.LOOPBACK, None)


def test_on_at_another_address_needs_a_token(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"status_page": "on", "monitoring_endpoint": ANYWHERE})
    assert "needs status_page_token_file" in faults["status_page"].message


def test_on_at_a_loopback_address_needs_none(tmp_path: Path) -> None:
    values = {"status_page": "on", "monitoring_endpoint": HERE}
    assert load(tmp_path, values).monitoring.status_page is StatusPage.ON


def test_the_token_is_read_from_its_file_and_never_shows(tmp_path: Path) -> None:
    values = {
        "status_page": "on",
        "monitoring_endpoint": ANYWHERE,
        "status_page_token_file": token_file(tmp_path, f"{TOKEN}\n"),
    }
    settings = load(tmp_path, values)
    assert settings.monitoring.status_page_token == Secret(TOKEN)
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("content", ["", "\n", "short", "two words in it ok", "ünïcödé-tokens-are-none"])
def test_a_file_without_a_token_is_a_fault_that_does_not_quote_it(tmp_path: Path, content: str) -> None:
    faults = faults_of(tmp_path, {"status_page_token_file": token_file(tmp_path, content)})
    assert "holds no token" in faults["status_page_token_file"].message
    assert not content.strip() or content not in str(faults)


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"status_page_token_file": str(tmp_path / "absent")})
    assert "cannot be read" in faults["status_page_token_file"].message


def test_a_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    path = token_file(tmp_path, mode=0o644)
    assert "0644" in warnings_of(tmp_path, {"status_page_token_file": path})[path].message
