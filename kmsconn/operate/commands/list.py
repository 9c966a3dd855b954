"""``kmsconn list``: names the configuration files that ``-c NAME`` finds. Reads none of them.

Source: httpz-rc7.md 6.4.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from kmsconn.config.sources import configurations, directory
from kmsconn.operate.commands.endings import ExitStatus

EXAMPLES: Final = (
    "kmsconn list",
    "kmsconn list --full-path",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("-f", "--full-path", action="store_true", help="print paths instead of names")


def execute(arguments: argparse.Namespace) -> int:
    """Print one name a line; a directory that is not there is a warning."""
    folder = directory(os.environ)
    if not folder.is_dir():
        print(
            f"warning: the directory {folder} does not exist; set KMS_CONNECTOR_CONFIG_DIR", file=sys.stderr
        )
    for path in configurations(folder):
        print(path.absolute() if arguments.full_path else path.name)
    return ExitStatus.WELL
