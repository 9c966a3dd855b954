"""Public and private addresses, alike on every Python."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from kmsconn.transport.addresses import is_private_host, is_public_address
from kmsconn.transport.urls import hide_urls, parse, show, show_origin

SECRET = "https://user:pa%20ss@Node.Example:8443/v2/key?token=hidden#frag"


def test_a_url_is_taken_apart() -> None:
    url = parse(SECRET)
    assert (url.scheme, url.host, url.port, url.path) == ("https", "node.example", 8443, "/v2/key")


def test_the_request_target_keeps_the_query() -> None:
    assert parse(SECRET).target == "/v2/key?token=hidden"


@pytest.mark.parametrize("before", ["https://a", "http://u:p@[::1]:80"])
@pytest.mark.parametrize(
    "rest",
    ["", "/", "//", "/a//b?c//d", "?q", "#f", "?q#f?g", "#f?q/r", "/a?b?c#d#e", "/a:b@c/%20", "?a=http://b"],
)
def test_path_and_query_are_those_of_the_standard_library(before: str, rest: str) -> None:
    parts = urlsplit(before + rest)
    assert (parse(before + rest).path, parse(before + rest).query) == (parts.path or "/", parts.query)


def test_an_empty_path_is_a_slash() -> None:
    assert parse("ws://node").target == "/"


@pytest.mark.parametrize(
    ("url", "port", "tls"),
    [("http://a", 80, False), ("https://a", 443, True), ("ws://a", 80, False), ("wss://a", 443, True)],
)
def test_a_scheme_implies_port_and_tls(url: str, port: int, tls: bool) -> None:
    assert (port, tls) == (parse(url).port, parse(url).tls)


def test_an_ipv6_host_loses_its_brackets_and_gets_them_back_in_the_authority() -> None:
    url = parse("http://[::1]:8545/")
    assert (url.host, url.authority) == ("::1", "[::1]:8545")


def test_the_schemes_own_port_is_left_out_of_the_authority() -> None:
    assert parse("https://a:443/x").authority == "a"


def test_user_info_becomes_basic_authorization() -> None:
    assert parse("http://user:pa%20ss@a").authorization == "Basic dXNlcjpwYSBzcw=="


def test_no_user_info_no_authorization() -> None:
    assert parse("http://a").authorization is None


@pytest.mark.parametrize("text", [SECRET, "https://tok:hidden@h/?token=hidden"])
def test_nothing_secret_is_shown_or_in_the_repr(text: str) -> None:
    for shown in (show(text), show_origin(text), repr(parse(text))):
        assert "hidden" not in shown
        assert "user" not in shown.replace("user_info", "")


def test_show_keeps_the_path_and_show_origin_does_not() -> None:
    assert (show(SECRET), show_origin(SECRET)) == (
        "https://node.example:8443/v2/key",
        "https://node.example:8443",
    )


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a",
        "ftp://a",
        "http://",
        "http://a:port",
        "http://a:99999",
        "http://[::1",
        "http://a b",
        "http://a\n",
        "http://a\\@b",
        "http://b\u00fccher/",
        "http://a%2eb",
    ],
)
def test_a_malformed_url_is_refused_without_being_repeated(bad: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        parse(bad)
    assert bad in {"", "a"} or bad not in str(caught.value)


@pytest.mark.parametrize("bad", ["", "user:secret@", "http://user:secret@:x/"])
def test_showing_a_malformed_url_never_raises_and_shows_nothing_of_it(bad: str) -> None:
    assert show(bad) == show_origin(bad) == "<malformed URL>"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://hunter2:hunter2@db:5433/k?sslmode=require", "postgresql://db:5433/k"),
        ("postgres://db/k", "postgresql://db/k"),
        ("postgresql://hunter2@a:5433,b:5434/k", "postgresql://a:5433,b:5434/k"),
        ("postgresql:///k?host=/run/pg&password=hunter2", "postgresql:///k"),
        ("postgresql://hunter2:hunter2@[::1]:5433/k#hunter2", "postgresql://[::1]:5433/k"),
    ],
)
def test_of_a_database_servers_and_name_are_shown(url: str, shown: str) -> None:
    assert show(url) == shown
    assert hide_urls(f"cannot open {url}: refused") == f"cannot open {shown}: refused"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hun/ter2@db/k",
        "postgresql://u:hun?ter2@db/k",
        "postgresql://u:12#ter2@db/k",
        "postgresql://u:hunter2",
    ],
)
def test_of_a_malformed_address_of_a_database_nothing_is_shown(url: str) -> None:
    """A character of the password that was not escaped ends the address before it."""
    assert show(url) == "<malformed URL>"


PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1
192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1 2001:10::1
2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1 5f00::1 fc00::1 fd00::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
""".split()
PUBLIC = """
1.1.1.1 8.8.8.8 52.216.0.1 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 198.20.0.1 223.255.255.255
2606:4700::1111 2a00:1450:4001:82a::200e 2001:4860:4860::8888 2400:cb00::1 3ffe::1
""".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_of_the_public_internet_is_private(address: str) -> None:
    assert not is_public_address(address)
    assert is_private_host(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_of_the_public_internet_is_not(address: str) -> None:
    assert is_public_address(address)
    assert not is_private_host(address)


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "metadata.internal", "metadata.internal.",
     "minio", "a.localdomain", "nas.home.arpa", "svc.cluster.local",
     "127.1", "127.0.0.1.", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "10.0.0.256", "bucket.0x"],
)  # fmt: skip
def test_names_that_lead_nowhere_outside_and_addresses_in_disguise_are_private(host: str) -> None:
    assert is_private_host(host)
    assert not is_public_address(host)


@pytest.mark.parametrize(
    "host", ["bucket.example", "bucket.example.", "a1.b2", "s3.eu-west-1.amazonaws.com", "0x7f.example"]
)
def test_a_public_name_is_not_judged_before_it_is_resolved(host: str) -> None:
    assert not is_private_host(host)
