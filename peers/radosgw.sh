#!/bin/sh
# Installs Ceph's S3 server, radosgw, where it is missing and can be installed: as root, by apt-get. Elsewhere says how to get it.
set -eu

if command -v radosgw > /dev/null && command -v radosgw-admin > /dev/null; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "radosgw is MISSING, so tests against it are left out, and fail where CI is set." >&2
    echo "Get it on Debian or Ubuntu with: sudo apt-get install --no-install-recommends radosgw" >&2
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
install() {
    apt-get install --quiet --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=300 radosgw
}
# The lists of packages may be old or not there at all; fetched only then.
install || { apt-get update --quiet --quiet && install; }
