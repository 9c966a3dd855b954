"""Where configuration files lie: a directory of them, and one by its name. Reads no content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "KMS_CONNECTOR_CONFIG_DIR"
DEFAULT: Final = Path("config") / "environments"


def directory(environ: Mapping[str, str]) -> Path:
    """Return the directory of configurations: that of the variable, else one below the working directory."""
    named = environ.get(VARIABLE, "").strip()
    return Path(named) if named else DEFAULT


def configurations(folder: Path) -> list[Path]:
    """Return the TOML files of a directory, by name; none where it is not there."""
    return sorted(path for path in folder.glob("*.toml") if path.is_file())


def find_file(written: str, environ: Mapping[str, str]) -> Path:
    """Return the file that is meant by a path, or by a name in the directory, with ``.toml`` or without; else the path itself."""
    path = Path(written)
    places = [path, path.with_name(f"{path.name}.toml")] if path.name else [path]
    if not path.is_absolute():
        places += [directory(environ) / place for place in places]
    return next((place for place in places if place.is_file()), path)
