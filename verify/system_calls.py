"""The numbers of system calls by processor, and which of them no exercise needs.

From linux/arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import dataclasses
from typing import Final

_REFUSED: Final = (
    # other processes
    "ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd "
    "sched_setparam sched_setscheduler sched_setattr ioprio_set migrate_pages move_pages "
    # memory and messages that outlive a process, and that another job could find
    "shmget shmat shmctl semget semctl msgget msgctl msgsnd msgrcv mq_open mq_unlink "
    "add_key request_key keyctl "
    # parts of the kernel that are often attacked and that nothing here uses
    "bpf userfaultfd perf_event_open io_uring_setup io_uring_enter io_uring_register "
    "vmsplice fanotify_init memfd_secret lookup_dcookie "
    # name spaces, mounts and the machine itself
    "unshare setns chroot pivot_root mount umount2 move_mount open_tree fsopen fsconfig "
    "fsmount fspick mount_setattr open_by_handle_at name_to_handle_at swapon swapoff "
    "reboot kexec_load kexec_file_load init_module finit_module delete_module acct "
    "quotactl quotactl_fd sethostname setdomainname settimeofday clock_settime "
    "clock_adjtime adjtimex syslog personality nfsservctl iopl ioperm modify_ldt "
)
REFUSED: Final = tuple(_REFUSED.split())
"""Refused whatever their arguments are; a processor that lacks one cannot be asked for it."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A processor's system calls.

    Attributes:
        audit: Its AUDIT_ARCH_* value: which table a call's number is from.
        numbers: By name; of the calls that `verify.seccomp` looks at.
    """

    audit: int
    numbers: dict[str, int]


# Calls newer than the processors' common numbering, then each processor's older ones.
_ALIKE: Final = """
    io_uring_setup=425 io_uring_enter=426 io_uring_register=427 open_tree=428 move_mount=429
    fsopen=430 fsconfig=431 fsmount=432 fspick=433 clone3=435 pidfd_getfd=438 process_madvise=440
    mount_setattr=442 quotactl_fd=443 memfd_secret=447
"""

_X86_64: Final = """
    ioctl=16 shmget=29 shmat=30 shmctl=31 socket=41 socketpair=53 clone=56 semget=64 semctl=66
    msgget=68 msgsnd=69 msgrcv=70 msgctl=71 ptrace=101 syslog=103 personality=135 setpriority=141
    sched_setparam=142 sched_setscheduler=144 modify_ldt=154 pivot_root=155 adjtimex=159 chroot=161
    acct=163 settimeofday=164 mount=165 umount2=166 swapon=167 swapoff=168 reboot=169
    sethostname=170 setdomainname=171 iopl=172 ioperm=173 init_module=175 delete_module=176
    quotactl=179 nfsservctl=180 sched_setaffinity=203 lookup_dcookie=212 clock_settime=227
    mq_open=240 mq_unlink=241 kexec_load=246 add_key=248 request_key=249 keyctl=250 ioprio_set=251
    migrate_pages=256 unshare=272 vmsplice=278 move_pages=279 perf_event_open=298 fanotify_init=300
    prlimit64=302 name_to_handle_at=303 open_by_handle_at=304 clock_adjtime=305 setns=308
    process_vm_readv=310 process_vm_writev=311 kcmp=312 finit_module=313 sched_setattr=314
    kexec_file_load=320 bpf=321 userfaultfd=323
"""

_AARCH64: Final = """
    lookup_dcookie=18 ioctl=29 ioprio_set=30 umount2=39 mount=40 pivot_root=41 nfsservctl=42
    chroot=51 quotactl=60 vmsplice=75 acct=89 personality=92 unshare=97 kexec_load=104
    init_module=105 delete_module=106 clock_settime=112 syslog=116 ptrace=117 sched_setparam=118
    sched_setscheduler=119 sched_setaffinity=122 setpriority=140 reboot=142 sethostname=161
    setdomainname=162 settimeofday=170 adjtimex=171 mq_open=180 mq_unlink=181 msgget=186 msgctl=187
    msgrcv=188 msgsnd=189 semget=190 semctl=191 shmget=194 shmctl=195 shmat=196 socket=198
    socketpair=199 add_key=217 request_key=218 keyctl=219 clone=220 swapon=224 swapoff=225
    migrate_pages=238 move_pages=239 perf_event_open=241 prlimit64=261 fanotify_init=262
    name_to_handle_at=264 open_by_handle_at=265 clock_adjtime=266 setns=268 process_vm_readv=270
    process_vm_writev=271 kcmp=272 finit_module=273 sched_setattr=274 bpf=280 userfaultfd=282
    kexec_file_load=294
"""


def _numbers(*tables: str) -> dict[str, int]:
    pairs = (entry.partition("=") for table in tables for entry in table.split())
    return {name: int(number) for name, _, number in pairs}


ARCHITECTURES: Final = {
    "x86_64": Architecture(0xC000003E, _numbers(_ALIKE, _X86_64)),
    "aarch64": Architecture(0xC00000B7, _numbers(_ALIKE, _AARCH64)),
}
