#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a guest does: mount what the tests want, run the command, say how it ended (tests/vm/guest.py).
# It writes to the host only what it was told to bring back: the tree is laid under an overlay whose changes stay in memory.
share=/run/estop/share
tree=/run/estop/tree
exec >"$share/output" 2>&1 </dev/null

mounted() { mountpoint -q "$2" || mount -t "$1" "$1" "$2"; }

prepare() {
    set -e
    project=$(cat "$share/project")
    read -r up _ </proc/uptime
    echo "guest: Linux $(uname -r) on $(nproc) processors, up in $up s"
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mounted cgroup2 /sys/fs/cgroup
    mounted bpf /sys/fs/bpf
    mounted tracefs /sys/kernel/tracing
    mounted securityfs /sys/kernel/security
    ip link set lo up
    mkdir -p "$project" /run/estop/upper /run/estop/work # the project may lie below /tmp
    mount -t overlay -o "lowerdir=$tree,upperdir=/run/estop/upper,workdir=/run/estop/work" overlay "$project"
    cd "$project"
    # The kernel asks for modules under /lib/modules, which a container's root may not even have.
    printf '#!/bin/sh\nexec modprobe -d "%s" "$@"\n' "$(cat "$share/modules")" >/run/estop/modprobe
    chmod +x /run/estop/modprobe
    echo /run/estop/modprobe >/proc/sys/kernel/modprobe
    # The host compiles for us: tests/vm/compile.py.
    cat /sys/kernel/btf/vmlinux >"$share/btf"
    { uname -r; uname -v; } >"$share/build.half"
    mv "$share/build.half" "$share/build"
    until [ -e "$share/compiled" ]; do sleep 0.2; done
    set +e
}

prepare
export ESTOP_CACHE_DIR=/run/estop/kept PYTEST_ADDOPTS=--compiled=/run/estop/kept
export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mapfile -d '' -t command <"$share/command"
"${command[@]}"
status=$?
mapfile -d '' -t take <"$share/take"
mkdir "$share/taken"
((${#take[@]})) && cp --parents "${take[@]}" "$share/taken"
echo $status >"$share/status"
