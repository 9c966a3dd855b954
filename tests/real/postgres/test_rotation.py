"""Passwords and certificates that are changed while connectors run: the next connection has the new ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest

from bench.cluster import OWNER, Cluster, give_to_owner
from kmsconn.config.description import PostgresAddress
from kmsconn.errors import JournalUnreachable, StartRefused
from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.operate.doctor.postgres import look_at_postgres
from tests.real.grpc_scene import make_certificate
from tests.real.postgres.conftest import Owner
from tests.real.postgres.crowd import Crowd, open_crowd
from tests.unit.journal.samples import opened

pytestmark = pytest.mark.rotating

FORMS = ("public", "direct", "delegated")


async def wait_told(crowd: Crowd, words: str) -> None:
    """Wait until an alert has these words."""
    await crowd.wait(lambda: any(words in alert.text for alert in crowd.of("one", AlertRaised)))


@pytest.mark.parametrize(
    ("content", "words"),
    [("hunter-1\n", "password authentication failed"), ("", "holds no password"), (None, "cannot be read")],
)
async def test_a_password_that_is_changed_is_read_for_the_next_connection(
    owner: Owner, content: str | None, words: str
) -> None:
    """Server and file are never changed at once: whatever is first, the connector waits for the other, and says what is wrong."""
    async with open_crowd(owner.reading) as crowd, crowd.connector("one"):
        crowd.ask(*FORMS)
        await crowd.wait_answered(3)
        owner.file.unlink()
        if content is not None:
            owner.file.write_text(content)
        owner.run("ALTER ROLE {owner} PASSWORD 'hunter-2'")
        owner.end_connections()
        await wait_told(crowd, words)
        owner.file.write_text("hunter-2\n")
        crowd.ask(*FORMS)
        await crowd.wait_answered(6)
        await crowd.wait(lambda: crowd.of("one", AlertCleared))
        assert "hunter" not in str(crowd.told)


# --- certificates: libpq reads its files for each connection


@attrs.frozen
class Secured:
    """A server with a certificate of its own, for 127.0.0.1; ``files`` is where whoever connects has the server's authority."""

    cluster: Cluster
    files: Path
    address: PostgresAddress

    def certify(self, name: str) -> None:
        """Give the server another certificate, and leave no connection. The files that know it are not changed."""
        make_certificate(self.files / name)
        for file, ours in (("certificate.pem", "server.crt"), ("key.pem", "server.key")):
            self._give(self.files / name / file, ours)
        self.reload()

    def trust(self, name: str) -> None:
        """Change the file of the server's authority."""
        shutil.copy(self.files / name / "certificate.pem", self.files / "root.pem")

    def admit(self, name: str) -> None:
        """Take clients with this certificate only, which is made, and leave no connection."""
        make_certificate(self.files / name / OWNER)
        self._give(self.files / name / OWNER / "certificate.pem", "clients.crt")
        self.reload()

    def carry(self, name: str) -> None:
        """Change the files of the client's certificate."""
        for file in ("certificate.pem", "key.pem"):
            shutil.copy(self.files / name / OWNER / file, self.files / file)
        (self.files / "key.pem").chmod(0o600)

    def reload(self) -> None:
        """Let the server read its files, and end all connections."""
        self.cluster.run("SELECT pg_reload_conf()")
        self.cluster.run("SELECT pg_sleep(0.2)")
        self.cluster.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def _give(self, source: Path, name: str) -> None:
        target = self.cluster.data / name
        shutil.copy(source, target)
        target.chmod(0o600)
        give_to_owner(target)


@pytest.fixture
def secured(own_server: Cluster, tmp_path: Path) -> Secured:
    parameters = {"sslmode": "verify-full", "sslrootcert": str(tmp_path / "root.pem")}
    address = own_server.address(own_server.make_database(), tcp=True)
    made = Secured(own_server, tmp_path, attrs.evolve(address, parameters=parameters))
    made.certify("first")
    made.trust("first")
    own_server.run("ALTER SYSTEM SET ssl = on")
    made.reload()
    return made


async def test_an_authority_that_is_changed_is_read_for_the_next_connection(secured: Secured) -> None:
    async with open_crowd(secured.address) as crowd, crowd.connector("one"):
        crowd.ask(*FORMS)
        await crowd.wait_answered(3)
        secured.certify("second")
        await wait_told(crowd, "certificate verify failed")
        secured.trust("second")
        crowd.ask(*FORMS)
        await crowd.wait_answered(6)


async def test_a_client_certificate_that_is_changed_is_read_for_the_next_connection(secured: Secured) -> None:
    secured.cluster.run("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'")
    rules = "local all all trust\nhostssl all all 127.0.0.1/32 cert\n"
    (secured.cluster.data / "pg_hba.conf").write_text(rules)
    files = {"sslcert": str(secured.files / "certificate.pem"), "sslkey": str(secured.files / "key.pem")}
    address = attrs.evolve(secured.address, parameters={**secured.address.parameters, **files})
    secured.admit("first clients")
    secured.carry("first clients")
    async with open_crowd(address) as crowd, crowd.connector("one"):
        crowd.ask(*FORMS)
        await crowd.wait_answered(3)
        secured.admit("second clients")
        await wait_told(crowd, "unknown ca")
        secured.carry("second clients")
        crowd.ask(*FORMS)
        await crowd.wait_answered(6)


def test_a_certificate_for_another_name_is_refused_with_the_remedy(secured: Secured) -> None:
    with pytest.raises(StartRefused, match="name the server in journal as its certificate does") as refusal:
        opened(attrs.evolve(secured.address, hosts=("localhost",)))
    assert not isinstance(refusal.value, JournalUnreachable)


# --- starts


def test_a_start_waits_for_a_password_that_is_just_being_written(owner: Owner) -> None:
    owner.file.write_text("")
    with pytest.raises(JournalUnreachable, match="holds no password"):
        opened(owner.reading)


def test_the_doctor_names_a_file_without_a_password(owner: Owner) -> None:
    owner.file.unlink()
    assert f"{owner.file} cannot be read" in look_at_postgres(owner.reading).refusal
