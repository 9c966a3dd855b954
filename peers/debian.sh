#!/bin/sh
# Installs a peer by Debian's package of it where a program of it is missing and can be installed: as root, by apt-get. Elsewhere says how
# to get it. A service that the package brings is stopped and disabled again.
#   sh peers/debian.sh PACKAGE PROGRAM...
set -eu

package=$1
shift
missing=
for program in "$@"; do
    command -v "$program" > /dev/null || missing=${missing:-$program}
done
if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "$missing is MISSING, so tests against it are left out, and fail where CI is set." >&2
    echo "Get it on Debian or Ubuntu with: sudo apt-get install --no-install-recommends $package" >&2
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
install() {
    apt-get install --quiet --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$package"
}
# The lists of packages may be old or not there at all; fetched only then.
install || { apt-get update --quiet --quiet && install; }
if command -v systemctl > /dev/null; then
    systemctl disable --now --quiet "$package" 2> /dev/null || true
fi
