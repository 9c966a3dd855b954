"""``python -m kmsconn``: the command ``kmsconn``, which is this module's ``main`` too.

Until a command heeds signals, Ctrl-C ends the process as it ends one that never heard of signals: at once and without a word.
SIGTERM does so too, but ends ``kmsconn run`` well: nothing was begun yet, so all is drained.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

SERVICE: Final = "run"


def main() -> int:
    """Run the command that the arguments name and return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] == [SERVICE]:
        signal.signal(signal.SIGTERM, _end_well)
    from kmsconn.operate.commands.main import main as run_command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_command()


def _end_well(_number: int, _frame: object) -> None:
    # an exception could be caught by what is being imported, and there is nothing to close
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
