"""What a student's process may not do, on top of the sandbox it already lives in. Linux only."""

import ctypes
import os
import platform
import resource
import signal
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_MOUNTS, NEW_PROCESSES, NEW_IPC = 0x10000000, 0x00020000, 0x20000000, 0x08000000
NO_SUID, NO_DEVICES = 2, 4  # flags of mount(2)
PARENT_DEATH_SIGNAL, DUMPABLE, SECCOMP, NO_NEW_PRIVILEGES = 1, 4, 22, 38  # commands of prctl(2)

# Per machine: what it calls itself in a seccomp filter, its number for clone, and the numbers of
# calls that a solution of an exercise never needs: namespaces, looking into other processes, the
# kernel's keyrings, io_uring, memory that no limit counts (memfd, shmget).
FORBIDDEN: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        56,
        (29, 101, 165, 248, 249, 250, 272, 298, 304, 308, 310, 311, 319, 321, 323, 425, 447),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        (40, 97, 117, 194, 217, 218, 219, 241, 265, 268, 270, 271, 279, 280, 282, 425, 447),
    ),
}
CLONE3 = 435  # its flags lie in memory, where a filter cannot look; libc falls back to clone
ALLOW, KILL, PERMISSION, UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def _call(function, *arguments) -> None:
    if function(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def become(user: int) -> None:
    """Give up root for a user of this sandbox's own, so that its processes are counted alone."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _call(LIBC.prctl, DUMPABLE, 1, 0, 0, 0)  # else /proc/self, which maps users, stays root's


def enter_namespaces() -> None:
    """Own users, mounts, processes and shared memory; the next fork is process 1 of them."""
    user, group = os.getuid(), os.getgid()
    _call(LIBC.unshare, NEW_USER | NEW_MOUNTS | NEW_PROCESSES | NEW_IPC)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def own_files(megabytes: int) -> None:
    """An empty scratch folder of limited size, and no view of the processes outside."""
    flags = NO_SUID | NO_DEVICES
    room = f"size={megabytes}m,nr_inodes=4096,mode=1777".encode()
    _call(LIBC.mount, b"tmpfs", b"/scratch", b"tmpfs", flags, room)
    _call(LIBC.mount, b"tmpfs", b"/proc", b"tmpfs", flags, b"size=4k,nr_inodes=1,mode=555")


def drop_capabilities() -> None:
    """None of root's powers, not even over these namespaces."""
    header = struct.pack("Ii", 0x20080522, 0)
    _call(LIBC.capset, header, bytes(24))


def die_with_parent() -> None:
    """Be killed when the parent dies, however it does."""
    _call(LIBC.prctl, PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def limit(megabytes: int, processes: int, disk: int, seconds: int) -> None:
    """Caps on memory (above what is in use), processes, the size of a file, files, CPU time."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, used + megabytes * 2**20),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_FSIZE, disk * 2**20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def program(machine: str) -> list[tuple[int, int, int, int]]:
    """The seccomp filter as (code, jump if true, jump if false, operand)."""
    architecture, clone, forbidden = FORBIDDEN[machine]
    lines = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    if machine == "x86_64":  # the same calls under the numbers of the x32 interface
        lines += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, PERMISSION)]
    for number in forbidden:
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, PERMISSION)]
    lines += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, UNKNOWN), (EQUAL, 0, 3, clone)]
    # last, because it replaces the number of the call by its first argument
    lines += [(LOAD, 0, 0, 16), (ANY_BIT, 0, 1, NEW_USER), (RETURN, 0, 0, PERMISSION)]
    return [*lines, (RETURN, 0, 0, ALLOW)]


def forbid_calls() -> bool:
    """Refuse the forbidden calls from here on; False where this machine has no table."""
    if platform.machine() not in FORBIDDEN:
        return False
    lines = program(platform.machine())
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    whole = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(buffer))
    _call(LIBC.prctl, NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call(LIBC.prctl, SECCOMP, 2, whole, 0, 0)
    return True
