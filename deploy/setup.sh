#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Brings this machine to the point where .venv/bin/estop runs: host checks, missing packages, venvs.
# It must not touch what is already right: the second run does nothing and says nothing.
#
#   deploy/setup.sh        the monitor and its tools, in .venv
#   deploy/setup.sh e2e    also what the end-to-end tests use: an agent (.venv-e2e), a browser, Prometheus
#   deploy/setup.sh vm     also what boots the guests of `make test-vm`
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # a user's PATH on Debian lacks bpftool's directory

# A root service must not run an interpreter its user can rewrite (pyenv, conda, uv), and Debian's
# bcc belongs to Debian's Python. A venv made by a plain user remains writable by that user: fit for
# development; a deployment belongs under a root-owned directory.
python=/usr/bin/python3
dist=/usr/lib/python3/dist-packages
bcc=$dist/bcc

say() { printf 'estop: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

check_host() {
    [ "$(uname -m)" = x86_64 ] || fail "this machine is $(uname -m); estop knows the system calls of x86-64 only"
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s); estop watches in the Linux kernel and runs nowhere else"
    local release major minor
    release=$(uname -r)
    IFS=.- read -r major minor _ <<<"$release"
    ((major > 6 || (major == 6 && minor >= 1))) ||
        fail "kernel $release is too old: 6.1 or newer is needed (ancestors in struct cgroup)"
    [ -r /sys/kernel/btf/vmlinux ] ||
        fail "no /sys/kernel/btf/vmlinux: this kernel was built without CONFIG_DEBUG_INFO_BTF"
    # mountinfo: optional fields end at a lone dash, the filesystem's type follows
    grep -q ' - cgroup2 ' /proc/self/mountinfo ||
        fail "no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup (or boot with systemd.unified_cgroup_hierarchy=1)"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "not root and no sudo: cannot run '$*'; run it as root, then try again"
    fi
}

# On Ubuntu bpftool is a wrapper that fails unless the tools of the very kernel are installed; a
# bpftool of another version reads this kernel's BTF as well.
working_bpftool() {
    local candidate
    for candidate in "$(command -v bpftool)" /usr/lib/linux-tools*/*/bpftool /usr/lib/linux-tools-*/bpftool; do
        if [ -x "$candidate" ] && "$candidate" version >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# Not grep -q: it stops reading at the first match, apt-cache then dies of SIGPIPE, and pipefail says no.
available() { apt-cache policy "$1" 2>/dev/null | grep 'Candidate: [^(]' >/dev/null; }

bpftool_packages() {
    if available bpftool; then
        echo bpftool
    elif available "linux-tools-$(uname -r)"; then
        echo linux-tools-common "linux-tools-$(uname -r)"
    else
        echo linux-tools-common linux-tools-generic
    fi
}

update_package_lists() {
    command -v apt-get >/dev/null ||
        fail "missing: $*; install them with this system's package manager (only apt is automated)"
    say "installing $*"
    as_root apt-get -q update
}

install_packages() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@"
}

install_missing_packages() {
    local missing=() need_bpftool=
    [ -x "$python" ] || missing+=(python3)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [ -d "$bcc" ] || missing+=(python3-bpfcc)
    compgen -G "$dist/seccomp.*.so" >/dev/null || missing+=(python3-seccomp)
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    working_bpftool >/dev/null || need_bpftool=bpftool
    [ -n "${missing[*]}$need_bpftool" ] || return 0
    update_package_lists "${missing[@]}" $need_bpftool
    # shellcheck disable=SC2207 # package names have no spaces
    [ -z "$need_bpftool" ] || missing+=($(bpftool_packages))
    install_packages "${missing[@]}"
    working_bpftool >/dev/null || fail "bpftool does not run: install the linux-tools package of kernel $(uname -r)"
}

# An emulator, the modules' index, and a static busybox: a guest's first instant has no libraries.
install_guest_packages() {
    local missing=()
    command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
    command -v depmod >/dev/null || missing+=(kmod)
    command -v ip >/dev/null || missing+=(iproute2)
    { command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1; } || missing+=(busybox-static)
    ((${#missing[@]})) || return 0
    update_package_lists "${missing[@]}"
    install_packages "${missing[@]}"
}

# On Ubuntu Chromium is a snap, whose confinement hides the tests' files: those tests are skipped there.
install_browser() {
    if command -v chromium >/dev/null || grep -q '^ID=ubuntu' /etc/os-release; then
        return 0
    fi
    update_package_lists chromium
    install_packages chromium
}

# Only its two programs, beside ours: the package starts a service, and nobody asked for that.
unpack_prometheus() {
    local dir
    command -v promtool >/dev/null && return 0
    [ -x build/prometheus/promtool ] && return 0
    available prometheus || update_package_lists prometheus
    say "unpacking prometheus into build"
    dir=$(mktemp -d)
    # Root's apt fetches as a user of its own, who cannot write here.
    (cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download prometheus && dpkg -x prometheus_*.deb .)
    mkdir -p build/prometheus
    mv "$dir"/usr/bin/prometheus "$dir"/usr/bin/promtool build/prometheus/
    rm -rf "$dir"
}

check_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is $("$python" -V 2>&1): Python 3.11 or newer is needed (Debian 12, Ubuntu 24.04)"
}

# venv_is_current DIR FILE...: was DIR made from these very files, at this place, by this Python?
venv_is_current() {
    local dir=$1
    shift
    [ "$(cat "$dir/stamp" 2>/dev/null)" = "$(stamp_of "$dir" "$@")" ]
}

stamp_of() {
    local dir=$1
    shift
    echo "$PWD/$dir $("$python" -V) $(cat "$@" | sha256sum)"
}

# A venv of the same Python at the same place is brought up to date, not replaced under a running
# monitor; one that was moved or belongs to another Python is made anew.
make_venv() {
    local dir=$1 lock=$2 home
    home="$PWD/$dir $("$python" -V)"
    say "installing $lock into $dir"
    if [ "$(cat "$dir/home" 2>/dev/null)" != "$home" ]; then
        rm -rf "$dir"
        "$python" -m venv "$dir"
        echo "$home" >"$dir/home"
    fi
    "$dir/bin/pip" install -qq --disable-pip-version-check --no-deps --require-hashes -r "$lock"
}

make_monitor_venv() {
    venv_is_current .venv requirements.lock pyproject.toml deploy/setup.sh && return
    make_venv .venv requirements.lock
    # Only these two are let in: --system-site-packages would let every package of the system shadow
    # the lock.
    local site
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    ln -sfn "$bcc" "$site/bcc"
    ln -sfn "$dist"/seccomp.*.so "$site/"
    .venv/bin/python -c 'import bcc' || fail "$bcc cannot be imported by $python: reinstall python3-bpfcc"
    .venv/bin/python -c 'import seccomp' || fail "$dist/seccomp.*.so cannot be imported by $python: reinstall python3-seccomp"
    ln -sfn "$(working_bpftool)" .venv/bin/bpftool
    .venv/bin/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
    stamp_of .venv requirements.lock pyproject.toml deploy/setup.sh >.venv/stamp
}

make_agent_venv() {
    venv_is_current .venv-e2e requirements-e2e.lock && return
    make_venv .venv-e2e requirements-e2e.lock
    stamp_of .venv-e2e requirements-e2e.lock >.venv-e2e/stamp
}

check_host
install_missing_packages
check_python
case ${1:-} in
"") make_monitor_venv ;;
e2e) install_browser && unpack_prometheus && make_monitor_venv && make_agent_venv ;;
vm) install_guest_packages && make_monitor_venv ;;
*) fail "unknown argument '$1': nothing, e2e or vm" ;;
esac
