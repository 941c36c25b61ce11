# SPDX-License-Identifier: Apache-2.0
"""The system calls that no process of a session may make, as a seccomp filter.

Every line closes a way round the monitor that an ordinary agent does not need. Refused calls fail
with an error that programs know, so that libuv, Node and uvloop fall back; nobody is killed for
trying. It must not refuse what sandboxes are built from (namespaces, mounts, further filters) nor
what a debugger does to its own children.

The filter is made by libseccomp through its own bindings, which come from the distribution as bcc
does: the ones on PyPI have not been kept up since 2021.
"""

from __future__ import annotations

import errno
import socket

import seccomp

_REFUSED: dict[str, tuple[str, ...]] = {
    "rings: an armed one goes on while the session is frozen, and a kill can set it off": (
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
    ),
    "could detach the sensors or write their maps": ("bpf",),
    "opens a file without its path": ("open_by_handle_at",),
    "another kernel, or code in this one, answers to no monitor": (
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "kexec_file_load",
        "reboot",
    ),
    "a wrong clock makes a wrong record (the names with 64, and stime, are the 32-bit entry's)": (
        "settimeofday",
        "clock_settime",
        "clock_settime64",
        "stime",
        "adjtimex",
        "clock_adjtime",
        "clock_adjtime64",
    ),
    "holds the kernel in the middle of reading an argument, to change it meanwhile": (
        "userfaultfd",
    ),
}

_FAMILIES = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
"""Netlink is how getifaddrs, `ip` and udev ask; what it changes needs CAP_NET_ADMIN, and no change
of routes or packet filters leads past the hooks of the cgroup. Who has it can have an address
rewritten after the connect hook saw it: see N7 in docs/evasion.md. AF_PACKET and AF_XDP send beside
those hooks; AF_VSOCK and AF_TIPC reach a peer that no rule about addresses knows; AF_ALG has been a
door into the kernel more than once."""
_MAX_FAMILY = 64  # AF_MAX is 46 in Linux 6.18; beyond it the kernel itself refuses

_PROTOCOLS = (33, 115, 132, 136, 256, 262)
"""DCCP, L2TP, SCTP, UDP-Lite, SMC, MPTCP: only TCP, UDP and ping ask the cgroup's connect hook
(`pre_connect` in the kernel's struct proto). Programs that try MPTCP take TCP when it is refused."""

_TYPES = {socket.SOCK_STREAM, socket.SOCK_DGRAM}
"""Of AF_INET and AF_INET6. A raw socket says an address to no hook but the last; AF_INET with
SOCK_PACKET is AF_PACKET to the kernel; SEQPACKET and DCCP are protocols of above without their number."""
_SOCK_PACKET = 10  # of <linux/net.h>
_PRIVILEGED = {socket.SOCK_RAW, _SOCK_PACKET}  # EPERM is what they give to who is not root

_SOCKETCALL_SOCKET, _SOCKETCALL_CONNECT = 1, 3  # SYS_SOCKET, SYS_CONNECT of <linux/net.h>
_SOCK_TYPE_MASK = 0xF  # of <linux/net.h>; above it lie SOCK_CLOEXEC and SOCK_NONBLOCK
_FAN_CLASS_BITS = 0xC  # of <linux/fanotify.h>; not zero: a group that can hold other people's opens
_FAN_REPORT_BITS = 0x600  # FID or DIR_FID; zero: a group that hands out descriptors
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # of <asm-generic/ioctls.h>
_INT = 0xFFFFFFFF  # the kernel takes an int: what a caller leaves above it must not hide the value


def load(*, no_new_privileges: bool) -> None:
    """Put this process and all that it starts under the filter, for good; OSError if refused.

    Without `no_new_privileges` the kernel wants CAP_SYS_ADMIN.
    """
    made = seccomp.SyscallFilter(seccomp.ALLOW)
    made.add_arch(seccomp.Arch.X86)  # int 0x80, open to 64-bit programs too
    # What is left is x32, which answers as a kernel that was built without it.
    made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.ERRNO(errno.ENOSYS))
    made.set_attr(seccomp.Attr.CTL_NNP, int(no_new_privileges))
    for name in (name for names in _REFUSED.values() for name in names):
        made.add_rule(seccomp.ERRNO(errno.EPERM), name)
    _refuse_sockets(made)
    _refuse_arguments(made)
    try:
        made.load()
    except RuntimeError as error:
        raise PermissionError(errno.EPERM, f"no seccomp filter: {error}") from error


def _refuse_sockets(made: seccomp.SyscallFilter) -> None:
    """By family, by protocol and by type: see `_FAMILIES`, `_PROTOCOLS` and `_TYPES`."""
    unknown = seccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in sorted(set(range(_MAX_FAMILY)) - _FAMILIES):
        made.add_rule(unknown, "socket", _equal(0, family))
    # Its arguments lie in memory, where no filter can look. So a 32-bit program gets a socket only
    # by the call of its own that Linux has had since 4.3.
    made.add_rule(unknown, "socketcall", _equal(0, _SOCKETCALL_SOCKET))
    # Nor can a sensor be sure of a descriptor that it reads from memory. What sends (sendto, sendmsg,
    # sendmmsg) is left: its hooks lie behind both calls, and no sensor looks at either.
    made.add_rule(seccomp.ERRNO(errno.EPERM), "socketcall", _equal(0, _SOCKETCALL_CONNECT))
    for protocol in _PROTOCOLS:
        made.add_rule(seccomp.ERRNO(errno.EPROTONOSUPPORT), "socket", _equal(2, protocol))
    for kind in sorted(set(range(_SOCK_TYPE_MASK + 1)) - _TYPES):
        error = errno.EPERM if kind in _PRIVILEGED else errno.ESOCKTNOSUPPORT
        for family in (socket.AF_INET, socket.AF_INET6):
            of_kind = _equal(1, kind, _SOCK_TYPE_MASK)
            made.add_rule(seccomp.ERRNO(error), "socket", _equal(0, family), of_kind)


def _refuse_arguments(made: seccomp.SyscallFilter) -> None:
    """Calls that are harmless but for one of their arguments."""
    no = seccomp.ERRNO(errno.EPERM)
    # Types into the terminal: the person's shell would run it, outside the session.
    made.add_rule(no, "ioctl", _equal(1, _TIOCSTI))
    made.add_rule(no, "ioctl", _equal(1, _TIOCLINUX))
    # A permission group of an agent with root could hold every open of the monitor's.
    for wanted in (0x4, 0x8, 0xC):
        made.add_rule(no, "fanotify_init", _equal(0, wanted, _FAN_CLASS_BITS))
    # Reading its events opens what others opened, as writable as the group asked for, past every
    # sensor and past our own permission events. With handles instead it is harmless, as inotify is.
    made.add_rule(no, "fanotify_init", _equal(0, 0, _FAN_REPORT_BITS))


def _equal(position: int, value: int, mask: int = _INT) -> seccomp.Arg:
    return seccomp.Arg(position, seccomp.MASKED_EQ, mask, value)
