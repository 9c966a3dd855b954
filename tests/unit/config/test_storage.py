"""Options of the journal that only make sense together: its password, and what several processes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmsconn.config import assembly
from kmsconn.config.assembly import SettingDifference, common_settings, differences, password, secret_in
from kmsconn.config.description import ROLES, Mode, PostgresAddress, Role, Secret
from kmsconn.config.places import parse_postgres_url
from kmsconn.config.settings import Retention
from kmsconn.config.sources import load_config
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.operate.control.server import control_path
from tests.unit.config.sample_values import ADDRESS, faults_of, load, warnings_of, write_toml

URL = "postgresql://kmsconn@db/kmsconn"
WORKER: dict[str, Any] = {
    "journal": URL,
    "roles": ["hear", "work"],
    "private_key": None,
    "tx_sender_address": ADDRESS,
}


def password_file(folder: Path, text: str = "hunter2\n", mode: int = 0o600) -> str:
    path = folder / "password"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_the_password_of_a_file_is_read_when_it_is_needed_without_the_end_of_its_line(tmp_path: Path) -> None:
    """Whoever rotates it changes the file while the connector runs."""
    settings = load(tmp_path, {"journal": URL, "journal_password_file": password_file(tmp_path)})
    file = tmp_path / "password"
    assert settings.storage.journal == PostgresAddress("kmsconn", ("db",), (), "kmsconn", password_file=file)
    assert settings.warnings == ()
    file.write_text("hunter3\r\n")
    assert secret_in(file, password) == Secret("hunter3")
    assert "hunter2" not in repr(settings)


def test_two_passwords_are_a_fault(tmp_path: Path) -> None:
    changes = {"journal": "postgresql://u:hunter2@db/k", "journal_password_file": password_file(tmp_path)}
    faults = faults_of(tmp_path, changes)
    assert "second password" in faults["journal_password_file"].message
    assert "hunter2" not in str(faults)


@pytest.mark.parametrize("text", ["", "\n", "two\nlines\n", "zero\0byte"])
def test_a_file_without_one_line_holds_no_password(tmp_path: Path, text: str) -> None:
    faults = faults_of(tmp_path, {"journal": URL, "journal_password_file": password_file(tmp_path, text)})
    assert "holds no password" in faults["journal_password_file"].message


def test_a_missing_password_file_is_reported_with_all_other_faults(tmp_path: Path) -> None:
    changes = {"journal": URL, "journal_password_file": str(tmp_path / "absent"), "lease": "1ms", "roles": []}
    assert faults_of(tmp_path, changes).keys() == {"journal_password_file", "lease", "roles"}


def test_a_password_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    path = password_file(tmp_path, mode=0o644)
    assert list(warnings_of(tmp_path, {"journal": URL, "journal_password_file": path})) == [path]


# Changes → the option that is named, and what is said of it.
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "SQLite has one process, which does all": ({"roles": ["hear", "work"]}, "roles", "SQLite has one process"),
    "who sends nothing must know the account that does": (
        {**WORKER, "tx_sender_address": None}, "tx_sender_address", "sends nothing does not know for which node it works",
    ),
    "a raw key of one that sends is a risk on a main network": (
        {"journal": URL, "ethereum_chain_id": 1}, "private_key", "main network",
    ),
    "who sends needs a key": ({**WORKER, "roles": ["send"]}, "private_key", "no wallet is configured"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_the_journal_is_a_fault(tmp_path: Path, case: Any) -> None:
    changes, option, said = case
    faults = faults_of(tmp_path, changes)
    assert list(faults) == [option]
    assert said in faults[option].message


@pytest.fixture(autouse=True)
def _no_run_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever folders this machine has."""
    monkeypatch.setattr(assembly, "RUN", tmp_path / "absent")


@pytest.mark.parametrize(
    ("url", "warned"),
    [("postgresql://u:hunter2@db/k", True), ("postgresql:///k?password=hunter2", True), (URL, False)],
)
def test_a_file_with_a_password_that_others_may_read_is_warned_about(
    tmp_path: Path, url: str, warned: bool
) -> None:
    path = write_toml(tmp_path, {"journal": url, "private_key": None}, mode=0o644)
    key = {"KMS_CONNECTOR_PRIVATE_KEY": "11" * 32}
    assert [warning.place for warning in load_config(path, environ=key).warnings] == [str(path)] * warned


@pytest.mark.parametrize(
    ("name", "value"), [("database_pool_size", 16), ("lease", "5s"), ("journal_password_file", "/absent")]
)
def test_an_option_of_postgresql_is_warned_about_beside_a_file_of_sqlite(
    tmp_path: Path, name: str, value: Any
) -> None:
    warning = warnings_of(tmp_path, {name: value})[name]
    assert warning.message == "has no effect"
    assert "postgresql://" in warning.remedy


def test_roles_pool_and_lease_become_settings(tmp_path: Path) -> None:
    assert load(tmp_path, {"roles": ["send", "work", "hear"]}).work.roles == ROLES
    changes = {"journal": URL, "database_pool_size": 2, "lease": "3s"}
    found = load(tmp_path, changes, {"KMS_CONNECTOR_ROLES": "work,send"})
    assert found.work.roles == {Role.WORK, Role.SEND}
    assert (found.storage.database_pool_size, found.storage.lease) == (2, 3.0)


def test_the_control_socket_is_where_it_is_configured_or_beside_the_journal_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(**changes: Any) -> Path:
        return control_path(load(tmp_path, {"journal": URL, **changes}))

    assert place(control_socket="/run/kmsconn/c.sock") == Path("/run/kmsconn/c.sock")
    assert place(journal="sqlite:////var/lib/k.db") == Path("/var/lib/k.db.sock")
    assert place(service_name="kmsconn/2") == tmp_path / "kmsconn-2.sock"
    without_a_file = load(tmp_path, {"journal": URL}).but(control_socket=None)
    assert control_path(without_a_file) == Path("kmsconn.sock")
    monkeypatch.setattr(assembly, "RUN", tmp_path / "of the service manager")
    assembly.RUN.mkdir()
    assert place() == assembly.RUN / "kmsconn.sock"


def test_a_process_that_leaves_sending_to_others_needs_no_key_and_risks_none(tmp_path: Path) -> None:
    settings = load(tmp_path, WORKER)
    assert not settings.sends
    assert checksum(settings.wallet.tx_sender_address or Address(bytes(20))) == ADDRESS
    assert not load(tmp_path, {"journal": URL, "roles": ["work"], "ethereum_chain_id": 1}).sends


Words = Callable[..., dict[str, str]]


@pytest.fixture
def words(tmp_path: Path) -> Words:
    """Return the words of a complete configuration with changes."""
    settings = load(tmp_path)
    return lambda **changes: common_settings(settings.but(**changes))


def test_they_are_written_as_an_operator_writes_them(words: Words) -> None:
    assert words(core_endpoints=("http://a:1", "http://b:1"), audit_log=Path("/var/audit")) == {
        "mode": "active",
        "lease": "5s",
        "kms_core_endpoints": "http://a:1, http://b:1",
        "retention.contents": "168h",
        "retention.rows": "2160h",
        "audit_log": "a file",
        "compressed_key_sets": "auto",
        "preprocessing_ids": "none",
    }


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"lease": 10.0}, "lease"),
        ({"mode": Mode.SHADOW}, "mode"),
        ({"core_endpoints": ("http://a:1", "http://b:1")}, "kms_core_endpoints"),
        ({"retention": Retention(3600.0, 7200.0)}, "retention.contents"),
        ({"audit_log": Path("audit")}, "audit_log"),
        ({"compressed_key_sets": True}, "compressed_key_sets"),
        ({"preprocessing_ids": {4: 3}}, "preprocessing_ids"),
    ],
)
def test_each_one_is_told_with_both_processes(words: Words, changes: dict[str, Any], option: str) -> None:
    found = differences([("a (member 1)", words()), ("b (member 2)", words(**changes))])
    (text,) = (one.text for one in found if one.option == option)
    assert "a (member 1)" in text
    assert "b (member 2)" in text


def test_a_value_is_told_with_all_that_have_it_and_what_is_alike_or_not_said_is_none(words: Words) -> None:
    told = differences([("a", {"lease": "5s"}), ("b", {"lease": "9s"}), ("c", {"lease": "5s"})])
    assert told == [SettingDifference("lease", "5s at a, c; 9s at b")]
    assert differences([("a", words()), ("b", words()), ("an older version", {})]) == []
    assert differences([]) == []


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("http://a:1", "http://a:1, http://b:1", True),
        ("http://a:1, http://b:1", "http://b:1, http://a:1", True),
        ("http://a:1, http://b:1", "http://b:1, http://c:1", True),
        ("http://localhost:1", "http://core:1", False),
        ("http://a:1, http://b:1", "http://a:1, http://localhost:1", False),
    ],
)
def test_cores_differ_by_number_and_order_and_not_by_the_machine(one: str, other: str, differ: bool) -> None:
    told = [("a", {"kms_core_endpoints": one}), ("b", {"kms_core_endpoints": other})]
    assert bool(differences(told)) is differ


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://db/k", PostgresAddress("k", ("db",))),
        ("postgres://db:5433/k", PostgresAddress("k", ("db",), (5433,))),
        ("postgresql:///k", PostgresAddress("k")),
        ("postgresql://u@db/k", PostgresAddress("k", ("db",), user="u")),
        ("postgresql://u:@db/k", PostgresAddress("k", ("db",), user="u")),
        ("postgresql://u:p%40%2F:x@db/k", PostgresAddress("k", ("db",), (), "u", Secret("p@/:x"))),
        ("postgresql://[::1]:5433/k", PostgresAddress("k", ("::1",), (5433,))),
        ("postgresql://[fe80::1%25eth0]/k", PostgresAddress("k", ("fe80::1%eth0",))),
        ("postgresql://a:5433,b:5433/k", PostgresAddress("k", ("a", "b"), (5433,))),
        ("postgresql://a:5433,b/k", PostgresAddress("k", ("a", "b"), (5433, 5432))),
        ("postgresql://%2Frun%2Fpg/k", PostgresAddress("k", ("/run/pg",))),
        ("postgresql:///k?host=/run/pg&port=5433", PostgresAddress("k", ("/run/pg",), (5433,))),
        ("postgresql:///?dbname=k&user=u&password=p", PostgresAddress("k", (), (), "u", Secret("p"))),
        ("postgresql://db/k?sslmode=require", PostgresAddress("k", ("db",), parameters={"sslmode": "require"})),
        ("postgresql://db/k?ssl-mode=require&statement-cache-capacity=5",
         PostgresAddress("k", ("db",), parameters={"sslmode": "require"})),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart_as_libpq_does(url: str, expected: PostgresAddress) -> None:
    assert parse_postgres_url(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://hunter2:hunter2@db", "names no database"),
        ("postgresql://hunter2:hunter2@db/", "names no database"),
        ("postgresql://hunter2:hun/ter2@db/k", "written as %40"),
        ("postgresql://hunter2:hun@ter2@db/k", "written as %40"),
        ("postgresql://hunter2:99/hunter2@db/k", "written as %40"),
        ("postgresql://hunter2:hunter 2@db/k", "no URL of a PostgreSQL database"),
        ("postgresql://hunter2:hunter2%zz@db/k", "two hex digits"),
        ("postgresql://hunter2:hunter2%00@db/k", "zero byte"),
        ("postgresql://hunter2@db:65536/k", "1 to 65535"),
        ("postgresql://hunter2@db:x/k", "malformed"),
        ("postgresql://hunter2@a:1,b:2/k?host=c", "1 hosts and 2 ports"),
        ("postgresql://hunter2@db/k?sslmode=hunter2", "sslmode must be one of disable, allow"),
        ("postgresql://hunter2@db/k?sslrootcrt=hunter2", "did you mean sslrootcert"),
        ("postgresql://hunter2@db/k?hunter2=hunter2", "does not know"),
        ("postgresql://hunter2@db/k?sslmode", "sslmode has no value"),
    ],
)
def test_a_faulty_part_is_named_and_nothing_is_quoted(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_postgres_url(url)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown", "local"),
    [
        ("postgresql://hunter2:hunter2@db:5433/k?sslcert=hunter2", "postgresql://db:5433/k", False),
        ("postgresql:///k", "postgresql:///k", False),
        ("postgresql://[::1]:5433/k", "postgresql://[::1]:5433/k", False),
        ("postgresql://a:5433,b:5433/k", "postgresql://a:5433,b:5433/k", False),
        ("postgresql:///k?host=/run/pg", "postgresql:///k?host=/run/pg", True),
    ],
)
def test_an_address_shows_servers_and_database_alone(url: str, shown: str, local: bool) -> None:
    address = parse_postgres_url(url)
    assert (str(address), address.is_local) == (shown, local)
    assert "hunter2" not in repr(address)


def test_the_keywords_are_those_of_libpq_with_the_password() -> None:
    address = parse_postgres_url("postgresql://u:p@a:5433,b/k?sslmode=require")
    assert address.keywords() == {
        "host": "a,b",
        "port": "5433,5432",
        "dbname": "k",
        "user": "u",
        "password": "p",
        "sslmode": "require",
    }
    assert parse_postgres_url("postgresql:///k").keywords() == {"dbname": "k"}
