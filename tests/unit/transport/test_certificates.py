"""When certificates end is read from their files, as the library that made them has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kmsconn.config.working import ServerTls
from kmsconn.transport.certificates import SOON, end_of, told_end


def write_pair(folder: Path, end: datetime) -> ServerTls:
    """Write a certificate that ends then, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = ServerTls(folder / "c.pem", folder / "c.key")
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files.key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    files.cert_path.write_text(pem(end, key))
    return files


def pem(end: datetime, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """Return a certificate that ends then, signed by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = "kms"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = builder.serial_number(2**150).not_valid_before(end - timedelta(days=90)).not_valid_after(end)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("k" * 60)] * 5), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("year", [2027, 2049, 2050, 2120])
def test_the_end_of_a_certificate(tmp_path: Path, year: int) -> None:
    """Years from 2050 on are written otherwise (RFC 5280, 4.1.2.5)."""
    end = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    path = tmp_path / "c.pem"
    path.write_text("a comment\n" + pem(end))
    assert end_of(path) == end.timestamp()


def test_of_a_chain_the_first_to_end_counts(tmp_path: Path) -> None:
    first = datetime(2027, 1, 1, tzinfo=UTC)
    path = tmp_path / "c.pem"
    path.write_text(
        pem(datetime(2030, 1, 1, tzinfo=UTC)) + pem(first) + pem(datetime(2040, 1, 1, tzinfo=UTC))
    )
    assert end_of(path) == first.timestamp()


@pytest.mark.parametrize(
    "text",
    ["", "no certificate", "-----BEGIN CERTIFICATE-----\nMAMC\n-----END CERTIFICATE-----\n"],
)
def test_a_file_without_a_certificate_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.pem"
    path.write_text(text)
    with pytest.raises(ValueError, match="certificate"):
        end_of(path)


def test_it_is_told_two_weeks_before_and_after_its_end() -> None:
    assert told_end(SOON + 1, 0) == ""
    assert told_end(SOON, 0) == "ends on 1970-01-15 00:00 UTC"
    assert told_end(SOON, SOON) == "ended on 1970-01-15 00:00 UTC: clients refuse it"
