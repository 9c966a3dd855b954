"""``python -m kmsconn``: the command ``kmsconn``, which is this module's ``main`` too.

Until a command heeds signals, Ctrl-C ends the process as it ends one that never heard of signals: at once and without a word.
"""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command that the arguments name and return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kmsconn.operate.commands.main import main as run_command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_command()


if __name__ == "__main__":
    sys.exit(main())
