"""Which connector is measured, as arguments of a command. Starts nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.connector import OURS, STRAIGHT, Recipe


def add_connector(parser: argparse.ArgumentParser, computing: float) -> None:
    """Add what chooses the connector, and the Core's time for an answer, to a parser."""
    add = parser.add_argument
    add("--computing", type=float, default=computing, metavar="S", help=f"time of the Core ({computing})")
    add("--connector", default=OURS, metavar="COMMAND", help="another connector; see bench/connector.py")
    add("--config-template", type=Path, metavar="FILE", help="its configuration file, with places")
    add("--checkout", type=checkout, metavar="FOLDER", help="another checkout of kmsconn to run")
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="of the connector, on one PostgreSQL journal (1)",
    )
    add("--postgresql", action="store_true", help="a PostgreSQL journal for one process too")
    add("--ceiling", action="store_true", help="the least of a client instead; see bench/straight.py")


def checkout(text: str) -> Path:
    """Read the folder of a checkout. Raises ArgumentTypeError where kmsconn is not in it: another one would run in its place."""
    folder = Path(text).absolute()
    if not (folder / "kmsconn" / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"{text} is no checkout of kmsconn")
    return folder


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return which connector is measured."""
    template = arguments.config_template
    return Recipe(
        STRAIGHT if arguments.ceiling else arguments.connector,
        None if template is None else template.read_text(encoding="utf-8"),
        None if arguments.checkout is None else str(arguments.checkout),
        arguments.processes,
        arguments.postgresql or arguments.processes > 1,
    )


def connector_name(arguments: argparse.Namespace) -> str:
    """Return what was measured."""
    if arguments.ceiling:
        return "straight client"
    return "kmsconn" if arguments.connector == OURS else str(arguments.connector)
