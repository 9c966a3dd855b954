"""Public and private addresses, alike on every Python."""

from __future__ import annotations

import pytest

from kmsconn.transport.addresses import is_private_host, is_public_address

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
