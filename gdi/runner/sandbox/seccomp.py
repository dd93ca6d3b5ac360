"""The system-call filter of a sandbox that bubblewrap makes: what no analysis needs, and what most ways out of a
namespace began with, is refused with EPERM; clone3, whose flags no filter can read, is "not implemented", and libraries
then take clone. seccomp(2), linux/audit.h, asm/unistd.h.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

NEW_NAMESPACES = 0x7E020080  # CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}: of clone
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of BPF
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # places in struct seccomp_data
X32 = 0x40000000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # of ioctl: what is typed for the terminal's owner

# The same number everywhere: io_uring_{setup,enter,register}, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick,
# mount_setattr.
COMMON = (425, 426, 427, 428, 429, 430, 431, 432, 433, 442)


X86_64 = (
    *(101, 165, 166, 155, 167, 168, 169, 175, 313, 176, 246, 320, 179, 248, 249, 250),
    *(272, 308, 298, 304, 310, 311, 312, 321, 323),
)
AARCH64 = (
    *(117, 40, 39, 41, 224, 225, 142, 105, 273, 106, 104, 294, 60, 217, 218, 219),
    *(97, 268, 241, 265, 270, 271, 272, 280, 282),
)


@dataclass(frozen=True)
class Architecture:
    """AUDIT_ARCH_*, and numbers of system calls. `refused`: ptrace, mount, umount2, pivot_root, swapon, swapoff,
    reboot, init_module, finit_module, delete_module, kexec_load, kexec_file_load, quotactl, add_key, request_key,
    keyctl, unshare, setns, perf_event_open, open_by_handle_at, process_vm_readv, process_vm_writev, kcmp, bpf,
    userfaultfd.
    """

    audit: int
    clone: int
    clone3: int
    ioctl: int
    refused: tuple[int, ...]


ARCHITECTURES = {
    "x86_64": Architecture(
        0xC000003E,
        56,
        435,
        16,
        X86_64,
    ),
    "aarch64": Architecture(
        0xC00000B7,
        220,
        435,
        29,
        AARCH64,
    ),
}


def program(machine: str | None = None) -> bytes | None:
    """The filter as bubblewrap's `--seccomp` reads it (an array of struct sock_filter); None where this machine's
    numbers are not known.
    """
    known = ARCHITECTURES.get(machine or os.uname().machine)
    if known is None:
        return None
    refuse = (RETURN, 0, 0, REFUSE | errno.EPERM)
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, known.audit), refuse, (LOAD, 0, 0, NUMBER)]
    steps += [(AT_LEAST, 0, 1, X32), refuse]
    steps += [(EQUAL, 0, 1, known.clone3), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    for number in (*known.refused, *COMMON):
        steps += [(EQUAL, 0, 1, number), refuse]
    steps += [(EQUAL, 0, 3, known.clone), (LOAD, 0, 0, FIRST_ARGUMENT), (ANY_BIT, 0, 1, NEW_NAMESPACES), refuse]
    steps += [(LOAD, 0, 0, NUMBER), (EQUAL, 0, 4, known.ioctl), (LOAD, 0, 0, FIRST_ARGUMENT + 8)]
    steps += [(EQUAL, 1, 0, TIOCSTI), (EQUAL, 0, 1, TIOCLINUX), refuse, (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
