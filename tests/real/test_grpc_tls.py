"""TLS with real servers: the authority, ALPN, and certificates of the client."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsconn.config.parties import CoreTls
from kmsconn.core.client import client_context
from kmsconn.errors import StartRefused, Unreachable
from tests.behaviours import REAL, shows
from tests.real.grpc_scene import channel_to, make_certificate, running_peer

MIB = 1024 * 1024


@pytest.fixture
def library(request: pytest.FixtureRequest) -> str:
    """Return the server's library; ``shows`` chooses."""
    return str(request.param)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the server's key and certificate."""
    folder = tmp_path_factory.mktemp("tls") / "core"
    make_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def connector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the client's."""
    folder = tmp_path_factory.mktemp("tls") / "connector"
    make_certificate(folder)
    return folder


def pem(folder: Path, name: str = "certificate") -> Path:
    return folder / f"{name}.pem"


@shows("TLS with the configured authority, ALPN h2", *REAL)
async def test_calls_go_over_tls_with_the_configured_authority(library: str, core: Path) -> None:
    with running_peer(library, folder=str(core)) as peer:
        async with channel_to(peer.port, CoreTls(ca_file=pem(core))) as channel:
            message = bytes(3 * MIB)
            assert await channel.unary("/test.Peer/Echo", [message]) == message


@shows("a certificate of another authority is refused", *REAL)
async def test_a_certificate_of_another_authority_is_not_taken(library: str, core: Path) -> None:
    with running_peer(library, folder=str(core)) as peer:
        async with channel_to(peer.port, CoreTls()) as channel:
            with pytest.raises(Unreachable, match="certificate"):
                await channel.unary("/test.Peer/Echo", [b"x"])


@shows("a server that asks for a client's certificate gets it", *REAL)
async def test_a_client_s_certificate_opens_the_door(library: str, core: Path, connector: Path) -> None:
    tls = CoreTls(ca_file=pem(core), certificate_file=pem(connector), key_file=pem(connector, "key"))
    with running_peer(library, folder=str(core), authority=str(pem(connector))) as peer:
        async with channel_to(peer.port, tls) as channel:
            assert await channel.unary("/test.Peer/Echo", [b"x"]) == b"x"


@shows("without a client's certificate, or with an unknown one, the server is unreachable", *REAL)
async def test_without_a_client_s_certificate_the_door_stays_shut(
    library: str, core: Path, connector: Path
) -> None:
    strangers = CoreTls(ca_file=pem(core), certificate_file=pem(core), key_file=pem(core, "key"))
    with running_peer(library, folder=str(core), authority=str(pem(connector))) as peer:
        for tls in (CoreTls(ca_file=pem(core)), strangers):
            async with channel_to(peer.port, tls) as channel:
                with pytest.raises(Unreachable):
                    await channel.unary("/test.Peer/Echo", [b"x"])


@shows("a server that does not offer h2 by ALPN is unreachable, and the error says so", "grpclib", "emulated")
@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
async def test_a_server_without_h2_is_not_taken(library: str, core: Path, protocols: list[str]) -> None:
    with running_peer(library, folder=str(core), protocols=protocols) as peer:
        async with channel_to(peer.port, CoreTls(ca_file=pem(core))) as channel:
            with pytest.raises(Unreachable, match="HTTP/2"):
                await channel.unary("/test.Peer/Echo", [b"x"])


def test_tls_files_that_are_not_there_refuse_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="core_tls"):
        client_context(CoreTls(ca_file=tmp_path / "none.pem"))
