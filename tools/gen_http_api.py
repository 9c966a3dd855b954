"""Writes docs/reference/http-api.json, the OpenAPI document of decryption over HTTP; ``--check``: says if it is stale."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from kmsconn.http_api.openapi import document

TARGET: Final = Path(__file__).parent.parent / "docs" / "reference" / "http-api.json"


def text() -> str:
    """Return the text of the file."""
    return json.dumps(document(), indent=2) + "\n"


def main() -> int:
    """Write the file, or say that it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the file is up to date")
    if not parser.parse_args().check:
        TARGET.write_text(text(), encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text():
        return 0
    sys.stderr.write(f"{TARGET} is stale: make gen\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
