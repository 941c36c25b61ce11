#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kernel tests with Debian 13's bcc, LLVM and Python, on this host's kernel; as root.
# It must not write to the host's tree or .venv: the tree is laid under an overlay in memory, in a
# mount namespace that ends with this script, as is the copy of the root (0.8 GB).
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
    .venv/bin/python tests/vm/locked_for.py 3.13 <requirements.lock >"$wheels.lock"
    .venv/bin/pip download -qq --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        --python-version 3.13 -r "$wheels.lock" -d "$wheels"
    # No namespace of processes: BPF tells pids of the first one, and the tests compare them.
    exec unshare --mount bash "$0" private
fi

# Of several runs at a time each has a root of its own: a copy of the one that was made, in memory. An
# overlay would not do: rules know programs by their inodes, which it tells in two ways.
inside=/mnt # in this namespace of mounts only
mount -t tmpfs tmpfs "$inside"
cp -a "$root/." "$inside"
mkdir -p "$inside$project" "$inside/wheels" "$inside/tree" "$inside/host"
mount -t tmpfs -o mode=1777 tmpfs "$inside/tmp"
mount -t tmpfs tmpfs "$inside/tree"
mkdir "$inside"/tree/{upper,work}
mount -t overlay -o "lowerdir=$project,upperdir=$inside/tree/upper,workdir=$inside/tree/work" overlay "$inside$project"
mount --bind "$wheels" "$inside/wheels"
mount -t proc proc "$inside/proc"
mount --rbind /sys "$inside/sys"
mount --rbind /dev "$inside/dev"
export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_CONFIG_FILE=/dev/null
# Not a mere chroot: the monitor's own mount table would be of another root than its paths.
cd "$inside"
pivot_root . host
umount -l /host
cd "$project"
deploy/setup.sh
exec .venv/bin/python -m pytest tests/kernel
