# SPDX-License-Identifier: Apache-2.0
"""A kernel header tree for bcc, made from the kernel's BTF; it compiles nothing.

bcc looks for kernel headers in `BCC_KERNEL_SOURCE`. Its own includes need only a handful of files
there; everything else is `vmlinux.h`, which bpftool prints from BTF with exactly that kernel's
struct layouts. So no header package has to match the kernel, or exist.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from monitor.errors import RequirementError

BTF = Path("/sys/kernel/btf/vmlinux")


@dataclass(frozen=True)
class KernelBuild:
    """The kernel that is compiled for: this one, or one whose BTF somebody brought."""

    release: str
    """`uname -r`"""
    version: str
    """`uname -v`, which changes with every build; the release alone need not."""
    btf: Path

    @classmethod
    def running(cls) -> Self:
        """The one that runs here."""
        return cls(os.uname().release, os.uname().version, BTF)


# bcc includes these by name; BTF's vmlinux.h already defines what they would.
_EMPTY = (
    "include/uapi/linux/bpf.h",
    "include/uapi/linux/if_packet.h",
    "include/uapi/linux/if_ether.h",
    "include/uapi/linux/ptrace.h",
    "include/linux/types.h",
    "include/linux/log2.h",
    "include/linux/bpf_common.h",
    "include/generated/autoconf.h",
)

# bcc force-includes kconfig.h before everything else. BTF has no macros, so the few that bcc's
# helpers.h wants stand here; without NO_PRESERVE_ACCESS_INDEX vmlinux.h asks for CO-RE relocations,
# which bcc does not apply.
_KCONFIG = """\
#define CONFIG_BPF_SYSCALL 1
#define __LINUX_BPF_H__ 1
#define _UAPI__LINUX_BPF_H__ 1
#define BPF_NO_PRESERVE_ACCESS_INDEX 1
#include "vmlinux.h"
#define __always_inline inline __attribute__((always_inline))
#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif
"""

# bcc's helpers.h names every BPF helper that its own release knows; an older kernel's BTF does not
# have them all (bcc 0.26 on Linux 6.1). Here are those since 5.14 by number, which is part of the
# kernel's ABI; the list is closed, as kernels only add kfuncs now. Source: include/uapi/linux/bpf.h.
_HELPERS_FROM = 169
_HELPERS = """
    timer_init timer_set_callback timer_start timer_cancel get_func_ip get_attach_cookie
    task_pt_regs get_branch_snapshot trace_vprintk skc_to_unix_sock kallsyms_lookup_name
    find_vma loop strncmp get_func_arg get_func_ret get_func_arg_cnt get_retval set_retval
    xdp_get_buff_len xdp_load_bytes xdp_store_bytes copy_from_user_task skb_set_tstamp
    ima_file_hash kptr_xchg map_lookup_percpu_elem skc_to_mptcp_sock dynptr_from_mem
    ringbuf_reserve_dynptr ringbuf_submit_dynptr ringbuf_discard_dynptr dynptr_read dynptr_write
    dynptr_data tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6
    tcp_raw_check_syncookie_ipv4 tcp_raw_check_syncookie_ipv6 ktime_get_tai_ns
    user_ringbuf_drain cgrp_storage_get cgrp_storage_delete
"""


def _missing_helpers(vmlinux: str) -> str:
    known = set(re.findall(r"\bBPF_FUNC_(\w+)", vmlinux))
    return "".join(
        f"#define BPF_FUNC_{name} {number}\n"
        for number, name in enumerate(_HELPERS.split(), _HELPERS_FROM)
        if name not in known
    )


def _version_header(release: str) -> str:
    numbers = [
        int(n) for n in release.split("-", maxsplit=1)[0].split("+", maxsplit=1)[0].split(".")[:3]
    ]
    major, minor, patch = [*numbers, 0, 0][:3]
    code = (major << 16) + (minor << 8) + min(patch, 255)
    return (
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))\n"
        f"#define LINUX_VERSION_CODE {code}\n"
    )


def _dump_btf(btf: Path, to: Path) -> None:
    try:
        with to.open("wb") as out:
            subprocess.run(
                ["bpftool", "btf", "dump", "file", str(btf), "format", "c"],
                stdout=out,
                stderr=subprocess.PIPE,
                check=True,
            )
    except FileNotFoundError as error:
        raise RequirementError("bpftool is not installed", mend="apt install bpftool") from error
    except subprocess.CalledProcessError as error:
        raise RequirementError(
            f"bpftool cannot read {btf}: {error.stderr.decode(errors='replace').strip()}",
            mend="estop needs a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        ) from error


def header_tree(cache: Path, build: KernelBuild | None = None) -> Path:
    """The directory to point `BCC_KERNEL_SOURCE` at, made once per kernel under `cache`.

    `build`: the running kernel by default. The tree appears by rename, so that a reader never sees half
    of one.
    """
    build = build or KernelBuild.running()
    if not build.btf.exists():
        raise RequirementError(
            f"{build.btf} does not exist", mend="boot a kernel built with CONFIG_DEBUG_INFO_BTF=y"
        )
    tree = cache / f"headers-{build.release}-{zlib.crc32(build.version.encode()):08x}"
    if (tree / "include/linux/kconfig.h").exists():
        return tree
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        half = Path(scratch) / "tree"
        for name in _EMPTY:
            (half / name).parent.mkdir(parents=True, exist_ok=True)
            (half / name).write_text("")
        (half / "include/asm").mkdir(parents=True)
        (half / "include/asm/page.h").write_text("#define PAGE_SIZE 4096UL\n")
        (half / "include/linux/version.h").write_text(_version_header(build.release))
        _dump_btf(build.btf, half / "include/linux/vmlinux.h")
        vmlinux = (half / "include/linux/vmlinux.h").read_text()
        (half / "include/linux/kconfig.h").write_text(_KCONFIG + _missing_helpers(vmlinux))
        half.rename(tree)
    return tree
