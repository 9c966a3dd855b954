"""``kmsconn validate``: reads the configuration and says what is wrong with it, or what it amounts to. Asks no dependency."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kmsconn.config.networks import NETWORKS
from kmsconn.config.parties import Chain
from kmsconn.config.settings import Settings
from kmsconn.config.sources import find_file, load_config
from kmsconn.config.values import ROLES
from kmsconn.config.working import HttpApi
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.operate.commands.endings import ExitStatus
from kmsconn.transport.urls import show_origin

EXAMPLES: Final = (
    "kmsconn validate -c kmsconn.toml",
    "kmsconn validate -c kmsconn.toml --network mainnet",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_config_argument(parser)


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Describe ``-c FILE`` and ``--network``, which every command that needs settings takes."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it",
    )
    parser.add_argument(
        "--network",
        choices=tuple(NETWORKS),
        help="use chain ids and addresses of a known deployment; file and environment override them",
    )


def config_file(arguments: argparse.Namespace) -> Path | None:
    """Return the file that ``-c`` means, a path or a name in the directory of configurations."""
    return None if arguments.config is None else find_file(arguments.config, os.environ)


def execute(arguments: argparse.Namespace) -> int:
    """Print warnings and a summary. Raises ConfigError with all faults."""
    path = config_file(arguments)
    settings = load_config(path, environ=os.environ, network=arguments.network, alone=path is not None)
    for warning in settings.warnings:
        print(f"warning: {warning}")
    for line in summary(settings):
        print(line)
    print("the configuration is valid" if path is None else f"the configuration {path} is valid")
    return ExitStatus.WELL


def summary(settings: Settings) -> Iterator[str]:
    """Yield what a reader would check, without secrets: of a URL only scheme, host and port."""
    yield f"profile      {settings.protocol.profile}"
    yield f"mode         {settings.work.mode}"
    if settings.work.roles != ROLES:
        yield f"roles        {', '.join(sorted(settings.work.roles))}"
    yield f"tx sender    {_sender(settings)}"
    yield f"gateway      {_chain(settings.chains.gateway)}"
    if settings.chains.ethereum != settings.chains.gateway:
        yield f"ethereum     {_chain(settings.chains.ethereum)}"
    for host in settings.chains.host_chains:
        yield f"host chain   {_chain(host.chain)}, ACL {checksum(host.acl)}"
    yield f"decryption   {checksum(settings.protocol.decryption_contract.address)}"
    yield f"core         {', '.join(show_origin(url) for url in settings.core.core_endpoints)}"
    yield f"journal      {settings.storage.journal}"
    yield f"monitoring   {settings.monitoring.monitoring_endpoint}"
    if settings.http_api is not None:
        yield f"http         {_http_api(settings.http_api)}"
    if settings.monitoring.tracing is not None:
        yield f"traces       {show_origin(settings.monitoring.tracing.endpoint)}"
    if settings.proxies.shown:
        yield f"proxies      {settings.proxies.shown}"


def _sender(settings: Settings) -> str:
    """Return the wallet's address; that of a key in AWS KMS is known once it is asked, at the start."""
    if settings.wallet.private_key is not None:
        return checksum(PrivateKey.parse(settings.wallet.private_key.reveal()).address)
    if settings.wallet.tx_sender_address is not None:
        return checksum(settings.wallet.tx_sender_address)
    return (
        f"the AWS KMS key {settings.wallet.aws_kms.key_id}" if settings.wallet.aws_kms is not None else "none"
    )


def _http_api(http: HttpApi) -> str:
    keys = f"{len(http.keys)} API keys" if http.keys else "no API keys"
    return f"{http.endpoint}, {'with' if http.tls else 'without'} TLS, {keys}"


def _chain(chain: Chain) -> str:
    return f"{chain.chain_id} at {', '.join(show_origin(url) for url in chain.urls)}"
