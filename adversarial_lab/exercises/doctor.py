"""Tries to break out of the sandbox on this machine, and says what to do where it can."""

import os
import platform
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from adversarial_lab.exercises.conversation import (
    Box,
    Died,
    Limits,
    NotIsolated,
    TooBig,
    TooSlow,
)
from adversarial_lab.exercises.conversation import run_question as question

LIMITS = Limits(cell_seconds=2, wall_seconds=20, megabytes=256, processes=12)

# What an attacker would try. Each cell prints "yes" if it worked; every one must print "no".
ATTEMPTS = {
    "read a file outside": "print('yes' if os.path.exists({canary!r}) else 'no')",
    "read the home folder": "print('yes' if os.path.exists({home!r}) and os.listdir({home!r})"
    " not in ([], ['.pyenv']) else 'no')",
    "read the environment": "print('yes' if 'ADVERSARIAL_LAB_CANARY' in os.environ else 'no')",
    "write outside the scratch folder": """
def writable():
    for folder in ('/', '/usr', '/box/inside', '/dev', '/dev/shm', '/etc', {prefix!r}):
        try:
            open(os.path.join(folder, 'canary'), 'w').close()
            return True
        except OSError:
            pass
print('yes' if writable() else 'no')""",
    "fill the disk": """
def fill():
    try:
        for k in range(100):
            with open(f'fill{{k}}', 'wb') as file:
                file.write(bytes(2**21))
    except OSError:
        return False
    return True
print('yes' if fill() else 'no')""",
    "reach the network": """
def connects():
    try:
        socket.create_connection(('127.0.0.1', {port}), timeout=1)
        return True
    except OSError:
        return False
print('yes' if connects() else 'no')""",
    "be root, or become it": """
def root():
    try:
        os.setuid(0)
        return True
    except OSError:
        return os.getuid() == 0
print('yes' if root() else 'no')""",
    "see or signal other processes": """
def signals():
    try:
        os.kill({process}, 0)
        return True
    except OSError:
        return False
print('yes' if signals() else 'no')""",
    "make namespaces": """
libc = ctypes.CDLL(None)
print('yes' if libc.unshare(0x10000000) == 0 else 'no')""",
    "take all memory": """
def grabs():
    try:
        return len(bytearray(2**31)) > 0
    except MemoryError:
        return False
print('yes' if grabs() else 'no')""",
    "start many processes": """
def forks():
    try:
        for k in range(60):
            if os.fork() == 0:
                time.sleep(5)
                os._exit(0)
    except OSError:
        return False
    return True
print('yes' if forks() else 'no')""",
}
IMPORTS = "import ctypes, os, socket, time"


@dataclass(frozen=True)
class Finding:
    """One attempt and whether it was stopped."""

    attempt: str
    stopped: bool


def examine(sandbox: str = "bubblewrap") -> list[Finding]:
    """Run every attempt in the sandbox. Raises NotIsolated where it does not even start.

    Without a sandbox they would really happen, so "trusted" is refused with a ValueError.
    """
    if sandbox == "trusted":
        raise ValueError("sandbox must isolate to be examined, got 'trusted'")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        canary = Path(folder) / "canary"
        canary.write_text("canary")
        facts = {
            "canary": str(canary),
            "home": str(Path.home()),
            "prefix": os.path.dirname(os.__file__),
            "port": server.getsockname()[1],
            "process": os.getpid(),
        }
        cells = [text.format(**facts) for text in ATTEMPTS.values()]
        os.environ["ADVERSARIAL_LAB_CANARY"] = "1"
        box = Box(sandbox, ["numpy"], LIMITS)
        try:
            with box.student() as talk:
                printed = str(talk.ask(question([IMPORTS, *cells], LIMITS)).get("printed"))
        except (Died, TooSlow, TooBig) as error:
            raise NotIsolated(f"an attempt broke the sandbox: {error}") from None
        finally:
            box.close()
            del os.environ["ADVERSARIAL_LAB_CANARY"]
    said = printed.split()
    return [Finding(attempt, said[k : k + 1] == ["no"]) for k, attempt in enumerate(ATTEMPTS)]


def require(sandbox: str) -> None:
    """Raise NotIsolated, with what to do, unless the sandbox isolates here."""
    try:
        open_doors = [f.attempt for f in examine(sandbox) if not f.stopped]
    except NotIsolated as error:
        raise NotIsolated(f"{sandbox} does not start: {error}\n\n{advice(str(error))}") from None
    if open_doors:
        raise NotIsolated(
            f"{sandbox} does not isolate here; a student could: {', '.join(open_doors)}."
            f"\n\n{advice('')}"
        )


def report(sandbox: str) -> int:
    """Print every finding and what to do; 0 if students' code may run here."""
    try:
        findings = examine(sandbox)
    except NotIsolated as error:
        print(f"{sandbox} does not start here: {error}\n\n{advice(str(error))}")
        return 1
    for finding in findings:
        print(f"{'ok:   cannot' if finding.stopped else 'OPEN: can'} {finding.attempt}")
    if all(finding.stopped for finding in findings):
        print(f"{sandbox} isolates on this machine.")
        return 0
    print(advice(""))
    return 1


def advice(said: str) -> str:
    """What to do on this system, given what the sandbox said."""
    if platform.system() != "Linux":
        return OTHER_SYSTEM
    if shutil.which("bwrap") is None:
        return "Install bubblewrap:  sudo apt-get install bubblewrap  (or your system's package)."
    if "uid map" in said or "namespace" in said or "ermission denied" in said:
        return USER_NAMESPACES
    if "No such file" in said or "ModuleNotFoundError" in said:
        return INTERPRETER
    return OTHERWISE


OTHER_SYSTEM = """\
bubblewrap is for Linux. On macOS and Windows use a container runtime:  --sandbox docker  or
--sandbox podman, with an image named adversarial-lab-worker: Python and what the exercises import
(exercises/README.md has its three lines). Or grade in a Linux virtual machine; WSL 2 is one.
"""
USER_NAMESPACES = """\
This system does not let ordinary users make namespaces, which bubblewrap needs. Ubuntu 23.10 and
later:  sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0  until the next start, or an
AppArmor profile for /usr/bin/bwrap. Older Debian:  sudo sysctl -w
kernel.unprivileged_userns_clone=1. In a container: start it with --privileged, or grade outside.
"""
INTERPRETER = """\
The sandbox sees this Python's own folders (sys.prefix, sys.base_prefix) and /usr, read-only, and
nothing else, and reads them as another user if you are root: they must be readable for everybody.
A module that lies elsewhere, installed with --user or linked from a checkout, is not in reach:
install it into a virtual environment and start the grader from there.
"""
OTHERWISE = """\
Grade in a container (--sandbox docker or podman) or a virtual machine. For code that you wrote
yourself there is --trusted, which isolates nothing.
"""
