"""Which proxy an environment names for which host."""

from __future__ import annotations

import pytest

from kmsconn.transport.proxies import NO_PROXIES, Proxies, ProxyFault, proxies_of

PROXY = "http://proxy.example:3128"


def through(proxies: Proxies, host: str, port: int = 443, *, tls: bool = True) -> str | None:
    proxy = proxies.of(host, port, tls=tls)
    return None if proxy is None else proxy.shown


def test_an_empty_environment_names_none() -> None:
    assert proxies_of({}) == NO_PROXIES
    assert NO_PROXIES.shown == ""


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_for_tls(name: str) -> None:
    assert through(proxies_of({name: PROXY}), "node.example") == PROXY


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_for_plain_connections(name: str) -> None:
    assert through(proxies_of({name: PROXY}), "node.example", 80, tls=False) == PROXY


@pytest.mark.parametrize(("name", "tls"), [("HTTP_PROXY", True), ("HTTPS_PROXY", False)])
def test_each_counts_for_its_own_kind_alone(name: str, tls: bool) -> None:
    assert through(proxies_of({name: PROXY}), "node.example", tls=tls) is None


def test_lower_case_wins_and_an_empty_one_means_none() -> None:
    assert through(proxies_of({"HTTPS_PROXY": "http://other:1", "https_proxy": PROXY}), "n.example") == PROXY
    assert through(proxies_of({"HTTPS_PROXY": PROXY, "https_proxy": ""}), "n.example") is None
    assert through(proxies_of({"ALL_PROXY": PROXY, "HTTPS_PROXY": " "}), "n.example") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("https://proxy", "https://proxy"),
        ("http://[fd00::1]:8080/", "http://[fd00::1]:8080"),
    ],
)
def test_forms_of_a_proxy(text: str, shown: str) -> None:
    assert through(proxies_of({"HTTPS_PROXY": text}), "n.example") == shown


@pytest.mark.parametrize(
    "text", ["socks5://proxy:1080", "http://", "http://pro xy", "http://proxy:port", "wss://p"]
)
def test_what_names_no_proxy_is_a_fault_without_its_value(text: str) -> None:
    with pytest.raises(ProxyFault) as fault:
        proxies_of({"https_proxy": text.replace("://", "://user:hunter2@")})
    assert fault.value.variable == "https_proxy"
    assert "hunter2" not in str(fault.value)


def test_name_and_password_are_sent_and_shown_nowhere() -> None:
    proxies = proxies_of({"HTTPS_PROXY": "http://user:hunter%32@proxy:3128"})
    proxy = proxies.of("n.example", 443, tls=True)
    assert proxy is not None
    assert proxy.headers == {"Proxy-Authorization": "Basic dXNlcjpodW50ZXIy"}
    assert proxy.address == "http://user:hunter%32@proxy:3128"
    for said in (repr(proxies), str(proxies), proxies.shown, proxy.shown, repr(proxy)):
        assert "hunter" not in said
        assert "dXNlcjpodW50ZXIy" not in said


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "straight"),
    [
        ("*", "node.example", 443, True),
        ("node.example", "node.example", 443, True),
        ("node.example", "NODE.example.", 443, True),
        ("node.example", "a.node.example", 443, True),
        ("node.example", "othernode.example", 443, False),
        (".example", "node.example", 443, True),
        (".node.example", "node.example", 443, True),
        ("*.example", "node.example", 443, True),
        ("node.example:8545", "node.example", 8545, True),
        ("node.example:8545", "node.example", 443, False),
        ("other, node.example", "node.example", 443, True),
        ("other node.example", "node.example", 443, True),
        ("10.0.0.1", "10.0.0.1", 443, True),
        ("10.0.0.1", "10.0.0.10", 443, False),
        ("10.0.0.1:8545", "10.0.0.1", 8545, True),
        ("10.0.0.1:8545", "10.0.0.1", 443, False),
        ("10.0.0.0/8", "10.7.0.1", 443, True),
        ("10.0.0.0/8", "11.0.0.1", 443, False),
        ("10.0.0.0/8", "node10.example", 443, False),
        ("10.0.0.5/8", "10.7.0.1", 443, True),
        ("fd00::/8", "fd12::1", 443, True),
        ("fd00::1", "fd00:0::1", 443, True),
        ("[fd00::1]", "fd00::1", 443, True),
        ("[fd00::1]:8545", "fd00::1", 8545, True),
        ("[fd00::1]:8545", "fd00::1", 443, False),
        ("", "node.example", 443, False),
        (",", "node.example", 443, False),
        (".", "node.example", 443, False),
        ("", "localhost", 443, True),
        ("", "127.0.0.1", 443, True),
        ("", "::1", 443, True),
    ],
)
def test_what_goes_without_a_proxy(no_proxy: str, host: str, port: int, straight: bool) -> None:
    proxies = proxies_of({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (through(proxies, host, port) is None) is straight


def test_how_a_log_has_them() -> None:
    proxies = proxies_of({"HTTPS_PROXY": "http://u:p@proxy:3128", "NO_PROXY": ".local, 10.0.0.0/8"})
    assert proxies.shown == "https through http://proxy:3128, except .local,10.0.0.0/8"
