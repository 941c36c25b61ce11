#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kernel tests with Debian 13's bcc, LLVM and Python, on this host's kernel; as root.
# It must not write to the host's tree or .venv: the tree is laid under an overlay in memory, in a
# mount namespace that ends with this script.
set -euo pipefail
cd "$(dirname "$0")/../.."
project=$PWD
root=$project/build/guest/debian13
wheels=$project/build/guest/wheels13
packages=python3-bpfcc,python3-venv,bpftool,gcc,libc6-dev,iproute2,mount

if [ "${1:-}" != private ]; then
    command -v debootstrap >/dev/null || {
        apt-get -q update
        DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends debootstrap
    }
    if [ ! -d "$root" ]; then
        scratch=$(mktemp -d "$root.XXXXXX")
        trap 'rm -rf "$scratch"' EXIT
        echo 'estop: making a Debian 13 root' >&2
        debootstrap --variant=minbase --include="$packages" trixie "$scratch" >"$scratch.log" 2>&1 ||
            { tail -n 20 "$scratch.log" >&2 && exit 1; }
        rm -f "$scratch.log"
        chmod 755 "$scratch"
        mv -T "$scratch" "$root" 2>/dev/null || [ -d "$root" ] # another run was first
    fi
    # Fetched out here, where pip is set up; inside it needs no network.
    .venv/bin/pip download -qq --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        --python-version 3.13 -r requirements.lock -d "$wheels"
    # No namespace of processes: BPF tells pids of the first one, and the tests compare them.
    exec unshare --mount bash "$0" private
fi

# Of several runs at a time each has a root of its own: an overlay over the one that was made.
memory=/mnt # in this namespace of mounts only
mount -t tmpfs tmpfs "$memory"
mkdir "$memory"/{root,root-upper,root-work,tree-upper,tree-work}
mount -t overlay -o "lowerdir=$root,upperdir=$memory/root-upper,workdir=$memory/root-work" overlay "$memory/root"
inside=$memory/root
mount -t tmpfs -o mode=1777 tmpfs "$inside/tmp"
mkdir -p "$inside$project" "$inside/wheels"
mount -t overlay -o "lowerdir=$project,upperdir=$memory/tree-upper,workdir=$memory/tree-work" overlay "$inside$project"
mount --bind "$wheels" "$inside/wheels"
mount -t proc proc "$inside/proc"
mount --rbind /sys "$inside/sys"
mount --rbind /dev "$inside/dev"
export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_CONFIG_FILE=/dev/null
exec chroot "$inside" bash -c "cd '$project' && deploy/setup.sh && .venv/bin/python -m pytest tests/kernel"
