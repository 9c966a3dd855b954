"""The forms of option values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmsconn.config import forms, places
from kmsconn.config.values import PostgresAddress, Role, Secret


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("3s", 3),
        ("5m", 300),
        ("24h", 86400),
        ("2days", 172800),
        ("1h 30m", 5400),
        ("1h30m", 5400),
        ("0.5s", 0.5),
        ("10us", 1e-5),
        ("1 week", 604800),
    ],
)
def test_durations_are_read_as_humantime_writes_them(text: str, seconds: float) -> None:
    assert forms.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "5", "5 parsecs", "m5", "-5s", "5s!", "5s,", 5, 0.5, None, True, ["5s"]]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        forms.duration(value)


def test_a_poll_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than zero"):
        forms.positive_duration("0s")


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1), ("66MiB", 66 << 20), ("1 kb", 1000), ("17", 17), ("2GiB", 2 << 30)]
)
def test_sizes_are_bytes_or_text_with_a_unit(value: object, expected: int) -> None:
    assert forms.size(value) == expected


@pytest.mark.parametrize("value", ["", "MiB", "5 stone", "-1", 0, -1, 1.5, None])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"bytes|at least|between"):
        forms.size(value)


@pytest.mark.parametrize("value", [True, "true", "TRUE", "1", "yes", "on"])
def test_true_in_all_its_spellings(value: object) -> None:
    assert forms.flag(value) is True


@pytest.mark.parametrize("value", [False, "false", "0", "no", "off"])
def test_false_in_all_its_spellings(value: object) -> None:
    assert forms.flag(value) is False


@pytest.mark.parametrize("value", ["", "maybe", 2, None])
def test_what_is_no_flag_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="true or false"):
        forms.flag(value)


@pytest.mark.parametrize("value", [0, 2**64 - 1, "0", " 42 "])
def test_numbers_are_unsigned_64_bits(value: object) -> None:
    assert forms.whole(value) == int(str(value))


@pytest.mark.parametrize("value", [-1, 2**64, "-1", "1.5", 1.5, True, "", "٣", None])
def test_what_is_no_unsigned_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"whole number|between"):
        forms.whole(value)


def test_an_address_with_a_wrong_checksum_is_told_the_right_one() -> None:
    with pytest.raises(ValueError, match="0x5D8BD78e2ea6bbE41f26dFe9fdaEAa349e077478 is right"):
        places.contract_address("0x5d8BD78e2ea6bbE41f26dFe9fdaEAa349e077478")


@pytest.mark.parametrize(
    "digits", ["5D8BD78E2EA6BBE41F26DFE9FDAEAA349E077478", "5d8bd78e2ea6bbe41f26dfe9fdaeaa349e077478"]
)
def test_an_address_of_one_case_needs_no_checksum(digits: str) -> None:
    assert places.contract_address("0x" + digits) == bytes.fromhex(digits)


@pytest.mark.parametrize(
    "value", ["", "0x", "5D8BD78E2EA6BBE41F26DFE9FDAEAA349E077478", "0x" + "g" * 40, "0x" + "1" * 64, 5]
)
def test_what_is_no_address_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        places.contract_address(value)


def test_a_private_key_in_the_place_of_an_address_is_not_quoted() -> None:
    with pytest.raises(ValueError, match="64 characters") as caught:
        places.contract_address("4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d")
    assert "4f3edf" not in str(caught.value)


def test_urls_are_one_text_a_comma_list_or_a_list() -> None:
    urls = ("http://a:1", "wss://b/x?q=1,2")
    assert places.rpc_urls("http://a:1") == urls[:1]
    assert places.rpc_urls("http://a:1, wss://b/x?q=1,2") == urls
    assert places.rpc_urls(list(urls)) == urls


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a",
        "ftp://a",
        "http://",
        "http://a:port",
        "http://a b",
        "http://[::1",
        [],
        ["http://a", ""],
        ["http://a", 5],
        "http://a,b",
    ],
)
def test_what_is_no_url_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"URL|empty|must be"):
        places.rpc_urls(value if value != "http://a,b" else "a,http://b")


@pytest.mark.parametrize("read", [places.rpc_urls, places.websocket_urls, places.core_endpoints])
@pytest.mark.parametrize(
    "url", ["ftp://user:hunter2@h/?key=hunter2", "http://user:hunter2/@h", "hunter2", "http://h:hunter2"]
)
def test_no_part_of_a_wrong_url_is_quoted(read: Callable[[object], Any], url: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        read(url)
    assert "hunter2" not in str(caught.value)


def test_a_websocket_url_must_be_one() -> None:
    assert places.websocket_urls("wss://a") == ("wss://a",)
    with pytest.raises(ValueError, match="ws:// or wss://"):
        places.websocket_urls("http://a")


@pytest.mark.parametrize(
    "value", ["http://core", "http://core:1/path", "http://u@core:1", "grpc://core:1", "http://core:1?x=1"]
)
def test_a_core_endpoint_is_host_and_port_only(value: str) -> None:
    with pytest.raises(ValueError, match="http://"):
        places.core_endpoints(value)


def test_there_are_as_many_core_endpoints_as_the_journal_tells_apart() -> None:
    urls = [f"http://core:{port}" for port in range(1, places.MOST_CORES + 2)]
    assert places.core_endpoints(urls[1:]) == tuple(urls[1:])
    with pytest.raises(ValueError, match="at most 42 endpoints, not 43"):
        places.core_endpoints(urls)


def test_core_endpoints_lose_a_trailing_slash() -> None:
    assert places.core_endpoints("http://a:1/,https://b:2") == ("http://a:1", "https://b:2")


@pytest.mark.parametrize("value", ["0.0.0.0:9100", "[::]:9100", "localhost:0"])
def test_socket_addresses(value: str) -> None:
    assert places.socket_address(value) == value


@pytest.mark.parametrize(
    "value", ["", "9100", ":9100", "host:", "host:99999", "::1:9100", "http://h:1", 9100]
)
def test_what_is_no_socket_address_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        places.socket_address(value)


def test_the_fourth_slash_of_a_journal_begins_an_absolute_path() -> None:
    assert places.journal_address("sqlite:///kmsconn.db") == Path("kmsconn.db")
    assert places.journal_address("sqlite:////var/lib/kmsconn.db") == Path("/var/lib/kmsconn.db")


def test_a_journal_may_be_a_database_of_postgresql() -> None:
    assert places.journal_address("postgresql://db/kmsconn") == PostgresAddress("kmsconn", ("db",))


@pytest.mark.parametrize("value", ["", "kmsconn.db", "sqlite:///", "sqlite://x", "mysql://h/d", 5])
def test_what_is_no_journal_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        places.journal_address(value)


@pytest.mark.parametrize(
    "value", [["work", "send"], "work,send", "work, send", '["work", "send"]', ["send", "work"]]
)
def test_roles_are_a_list_or_its_text(value: object) -> None:
    assert forms.roles(value) == {Role.WORK, Role.SEND}


@pytest.mark.parametrize("value", ["", [], "[]", "hear;work", ["hear", 5], 5, ["Hear"]])
def test_what_is_no_list_of_roles_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be a list of hear, work, send"):
        forms.roles(value)


def test_a_lease_is_at_least_a_second() -> None:
    assert forms.lease("5s") == 5.0
    with pytest.raises(ValueError, match="at least 1s"):
        forms.lease("900ms")


def test_a_secret_is_trimmed_and_never_shown() -> None:
    found = forms.secret(" hunter2\n")
    assert found == Secret("hunter2")
    assert "hunter2" not in f"{found} {found!r}"


def test_a_file_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    assert places.existing_file(str(tmp_path / "there")) == tmp_path / "there"
    with pytest.raises(ValueError, match="no file"):
        places.existing_file(str(tmp_path / "absent"))


KEY, PREP = f"0x04{7:062x}", f"0x03{9:062x}"


@pytest.mark.parametrize("value", [{KEY: PREP}, f'{{"{KEY}": "{PREP}"}}'], ids=["table", "JSON"])
def test_preprocessing_ids_are_a_table_or_its_text(value: Any) -> None:
    assert forms.preprocessing_ids(value) == {int(KEY, 16): int(PREP, 16)}


@pytest.mark.parametrize("value", [{PREP: KEY}, {KEY: KEY}, {KEY: 3}, {KEY: "0x03"}, "{", "[]", 5])
def test_what_is_no_table_of_preprocessing_ids_is_a_fault(value: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a table|an id of this kind"):
        forms.preprocessing_ids(value)
