"""The command lines that start the worker where it can do no harm."""

import importlib.util
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

INSIDE = Path(__file__).parent / "inside"
START = "import sys; sys.path.insert(0, {!r}); from inside.worker import main; main()"
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
SCRATCH = "/scratch"  # not /tmp, where the Python itself may lie
DISK = 64 * 2**20  # bytes of the scratch folder
IMAGE = "adversarial-lab-worker"  # of the container runtimes: Python with what solutions import

# Root starts each sandbox under a user of its own, far above those of people: the limit on
# processes counts users, and one student's fork bomb must not starve another's sandbox.
USERS = itertools.count(2_000_000 + os.getpid() % 10_000 * 1_000)


def worker(home: str, modules: Iterable[str], user: int | None, serve: bool) -> list[str]:
    """Arguments for Python: isolated from environment and working directory, writing no caches."""
    options = json.dumps({"user": user, "modules": list(modules), "serve": serve})
    return ["-I", "-B", "-c", START.format(home), options]


def readable(modules: Iterable[str]) -> list[str]:
    """What the sandbox must see to start this Python: its prefixes and where the modules lie."""
    places = [*SYSTEM, sys.base_prefix, sys.prefix]
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            places.append(str(Path(spec.origin).parent.parent))
    found = dict.fromkeys(place for place in places if os.path.exists(place))
    inner = {p for p in found if any(Path(q) in Path(p).parents for q in found)}
    return [place for place in found if place not in inner and place != "/"]


def hidden(visible: list[str]) -> list[str]:
    """Folders with answers that lie in something visible: the library itself, installed or not."""
    package = Path(__file__).parents[1]
    private = [package, package.parent / "exercises"]
    return [
        str(path)
        for path in private
        if path.is_dir() and any(Path(place) in path.parents for place in visible)
    ]


def bubblewrap(modules: Iterable[str]) -> list[str]:
    """No network, no home, no environment; read-only files but for a small scratch folder."""
    root = os.geteuid() == 0
    visible = readable(modules)
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv"]
    # As root no namespace of users: bound files stay readable wherever they lie, /root included;
    # the worker then gives root up for a user of its own, and for that needs these two powers.
    command += (
        ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user"]
    )
    command += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", SCRATCH]
    command += ["--setenv", "TMPDIR", SCRATCH]
    command += ["--setenv", "OMP_NUM_THREADS", "1", "--setenv", "LANG", "C.UTF-8"]
    command += ["--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    for place in visible:
        for parent in reversed(Path(place).parents[:-1]):  # bubblewrap would make them 0700
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", place, place]
    for place in hidden(visible):
        command += ["--tmpfs", place, "--remount-ro", place]
    if not any(Path("/tmp") in Path(place).parents for place in visible):
        command += ["--symlink", SCRATCH, "/tmp"]
    command += ["--perms", "0755", "--dir", "/box", "--ro-bind", str(INSIDE), "/box/inside"]
    command += ["--perms", "1777", "--size", str(DISK), "--tmpfs", SCRATCH]
    command += ["--chdir", SCRATCH, "--remount-ro", "/"]
    user = next(USERS) if root else None
    return [*command, sys.executable, *worker("/box", modules, user, serve=True)]


def container(runtime: str) -> Callable[[Iterable[str]], list[str]]:
    """A container runtime, where bubblewrap does not run: macOS, Windows."""

    def command(modules: Iterable[str]) -> list[str]:
        box = [runtime, "run", "--rm", "--interactive", "--network=none", "--read-only"]
        box += ["--memory=3g", "--pids-limit=64", "--cpus=1", "--cap-drop=ALL", "--user=65534"]
        box += ["--security-opt=no-new-privileges", f"--tmpfs=/tmp:size={DISK}"]
        box += ["--env=HOME=/tmp", "--env=OMP_NUM_THREADS=1"]
        box += [f"--volume={INSIDE}:/box/inside:ro", IMAGE, "python3"]
        return [*box, *worker("/box", modules, None, serve=False)]

    return command


def disposable(modules: Iterable[str]) -> list[str]:
    """Inside a container that is thrown away with the student (Gradescope): another user."""
    home = str(INSIDE.parent)
    return [sys.executable, *worker(home, modules, next(USERS), serve=False)]


def trusted(modules: Iterable[str]) -> list[str]:
    """No isolation at all: a process with limits, for code that one trusts."""
    return [sys.executable, *worker(str(INSIDE.parent), modules, None, serve=False)]


SANDBOXES: dict[str, Callable[[Iterable[str]], list[str]]] = {
    "bubblewrap": bubblewrap,
    "docker": container("docker"),
    "podman": container("podman"),
    "disposable": disposable,
    "trusted": trusted,
}
