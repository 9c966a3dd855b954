"""The image of deploy/Containerfile, built by podman on a root made from Debian packages, and its commands run in it as they would be.

The base image is one of a registry; here it is debootstrap's, with the Python that Debian has. Nothing but packages is fetched. Where
the kernel lets nobody start containers, the root of the finished image still runs: mounted read-only, without a shell, as its user.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parents[2]
BASE = "localhost/kmsconn-base"
PACKAGES = "python3,python3-venv,ca-certificates"
MIRROR = "http://deb.debian.org/debian"
LENT = ("/etc/ssl/certs", "/etc/pip.conf")
"""Settings of this machine's pip that the build needs where its network is not the open one; they are mounted, not copied."""

# Mounts the image's root read-only with an empty state folder and without its shell, and becomes its user. $1 root, $2 state, $3 user.
_ENTER = """
set -e
root=$1 state=$2 user=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount --bind "$state" "$root/var/lib/kmsconn"
mount -t proc proc "$root/proc"
mount --bind /dev/urandom "$root/dev/urandom"
mount --bind /dev/null "$root/dev/null"
mount --bind /dev/null "$root/usr/bin/dash"
mount --bind /dev/null "$root/usr/bin/bash"
exec chroot --userspec="$user" "$root" "$@"
"""


@attrs.frozen
class Image:
    """A finished image: what its configuration says, where its root lies, and a folder for its state."""

    config: dict[str, Any]
    root: Path
    state: Path

    def but(self, **variables: str) -> Image:
        """Return the image in another environment."""
        more = [f"{name}={value}" for name, value in variables.items()]
        return attrs.evolve(self, config={**self.config, "Env": [*self.config["Env"], *more]})

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs the image with these arguments behind its entry point."""
        environment = ["/usr/bin/env", "-i", "-C", self.config["WorkingDir"], *self.config["Env"]]
        inside = [*environment, *self.config["Entrypoint"], *arguments]
        entering = ["sh", "-c", _ENTER, "enter", str(self.root), str(self.state), self.config["User"]]
        return ["unshare", "--mount", "--propagation", "private", *entering, *inside]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the image to its end."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)  # noqa: S603 - our own image


def build(folder: Path) -> Image:
    """Build the image in a folder. Raises CalledProcessError where a step fails; podman's words stand on standard error."""
    root, state = folder / "base", folder / "state"
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", root, MIRROR)
    _run("tar", "-C", root, "-cf", folder / "base.tar", ".")
    _podman(folder, "import", folder / "base.tar", BASE)
    lent: list[str | Path] = [
        word for path in LENT if Path(path).exists() for word in ("--volume", f"{path}:{path}:ro")
    ]
    arguments: list[str | Path] = [
        "--build-arg",
        f"BASE={BASE}",
        *lent,
        *_limits(),
        "--file",
        ROOT / "deploy" / "Containerfile",
    ]
    # --isolation chroot: its steps need no right to make namespaces
    _podman(
        folder,
        "build",
        "--isolation",
        "chroot",
        "--network",
        "host",
        "--format",
        "docker",
        *arguments,
        "--tag",
        "kmsconn",
        ROOT,
    )
    return _opened(folder, state)


def _opened(folder: Path, state: Path) -> Image:
    described = json.loads(_podman(folder, "image", "inspect", "kmsconn"))[0]
    mounted = Path(_podman(folder, "image", "mount", "kmsconn").strip())
    state.mkdir(mode=0o700)
    user, group = map(int, described["Config"]["User"].split(":"))
    os.chown(state, user, group)
    return Image({**described["Config"], "Healthcheck": described["Healthcheck"]}, mounted, state)


def _podman(folder: Path, *arguments: str | Path) -> str:
    places: list[str | Path] = [
        "--storage-driver",
        "vfs",
        "--root",
        folder / "store",
        "--runroot",
        folder / "run",
    ]
    return _run("podman", *places, *arguments)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - our own commands


def _limits() -> list[str]:
    """Return the limits of this process: podman would raise them, which not everybody may."""
    named = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    found = {name: resource.getrlimit(number) for name, number in named.items()}
    return [word for name, (soft, hard) in found.items() for word in ("--ulimit", f"{name}={soft}:{hard}")]
