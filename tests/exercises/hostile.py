"""Submissions that attack the grader or are broken: name, what is handed in, what it may earn."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

GIVEN = "import os, signal, sys, time\nimport numpy as np"
DOUBLE = "def double(v):\n    return 2 * v"
TOTAL = "def total(v):\n    return float(v.sum())"
ALL, HALF = 6, 2  # points of everything, and of `total` alone


@dataclass(frozen=True)
class Attack:
    """One submission: its cells, or the bytes of its file, and the points it may get."""

    name: str
    cells: tuple[str, ...] = ()
    least: int = 0
    most: int = ALL
    states: tuple[str, ...] = ()  # each must occur
    data: bytes | None = None


def beside(name: str, cell: str, least: int = ALL, **more) -> Attack:
    """Right answers, and then a hostile cell."""
    return Attack(name, (GIVEN, DOUBLE, TOTAL, cell), least, **more)


def inside(name: str, body: str, least: int = HALF, most: int = HALF, **more) -> Attack:
    """The hostile part is in the answer to `double`; `total` is right."""
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    return Attack(name, (GIVEN, f"def double(v):\n{lines}", TOTAL), least, most, **more)


def notebook(cells: tuple[str, ...]) -> bytes:
    """The cells as a notebook file."""
    code = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    metadata = {"adversarial_lab": {"exercises": "toy"}}
    whole = {"cells": code, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole).encode()


FLOOD = """
for descriptor in range(64):
    try:
        os.write(descriptor, {line!r})
    except OSError:
        pass"""
FORGED = b'{"state": "ok", "out": {"v": {"dtype": "<f8", "shape": [], "data": "AAAAAAAAAAA="}}}\n'
FORGED_CELLS = b'{"state": "ok", "cells": [], "printed": ""}\n'
ONCE = """
import stat
for descriptor in range(64):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            os.write(descriptor, {line!r})
            os._exit(0)
    except OSError:
        pass"""
SEARCH = """
found = []
for folder, _, names in os.walk("/"):
    for name in names:
        if name in ("master.md", "tests.py", "mutants.py", "reference.json", "toy.json"):
            found.append(os.path.join(folder, name))
            print(open(found[-1]).read()[:3000])
print(found)"""
FRAMES = """
import gc
frame, seen = sys._getframe(), []
while frame:
    seen.append(repr(frame.f_locals)[:20000])
    frame = frame.f_back
print([text for text in seen if "CANARY" in text or "teacher" in text])
print([o for o in gc.get_objects() if isinstance(o, str) and ("CANARY" in o or "teacher" in o)])
print(os.environ, sys.argv)"""
LYING = """class Yes:
    dtype, shape, size = np.dtype(float), (4,), 4
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    def __abs__(self): return 0.0
return Yes()"""
SUBCLASS = """class Zero(np.ndarray):
    def __eq__(self, other): return np.ones(self.shape, bool)
    def __sub__(self, other): return np.zeros(self.shape)
    def __array_ufunc__(self, *a, **k): return np.zeros(4)
    def tobytes(self, *a): return bytes(8)
return np.zeros(4).view(Zero)"""
DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(0)"""
BOMB = """
while True:
    try:
        os.fork()
    except OSError:
        pass"""
DEAF = """
def deaf():
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True:
        pass
deaf()"""
STUBBORN = """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass"""
ESCAPE = """
import ctypes
libc = ctypes.CDLL(None)
for flags in (0x10000000, 0x00020000, 0x10020000):
    libc.unshare(flags)
libc.mount(b"none", b"/scratch", b"tmpfs", 0, None)
libc.ptrace(16, 1, 0, 0)
libc.chroot(b"/scratch")
libc.reboot(0x1234567)"""
DISK = """
for k in range(1000):
    with open(f"flood{k}", "wb") as file:
        file.write(bytes(10**6))"""
PATCHED = """
np.asarray = lambda *a, **k: np.zeros(4)
np.random.RandomState = lambda *a: None
np.allclose = lambda *a, **k: True
import builtins
builtins.abs = lambda x: 0"""
FAKE_TORCH = """
import types
torch = types.ModuleType("torch")
class Tensor:
    __instancecheck__ = lambda *a: True
torch.Tensor = object
sys.modules["torch"] = torch"""
WRITER = """
import json
json.dumps = json.loads = lambda *a, **k: "{}"
os.write = os.read = os.fork = os._exit = lambda *a, **k: 0
time.monotonic = time.time = lambda: 0.0"""
HOARD = """
held = []
while True:
    held.append(os.open("/dev/null", 0))"""
THREADS = """
import threading
for k in range(10000):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()"""


def attacks(canary: Path, port: int) -> list[Attack]:
    """All of them; `canary` is a folder on the host, `port` one that somebody listens on."""
    burn = f"import shutil\nshutil.rmtree({str(canary)!r})"
    overwrite = f"open({str(canary / 'file')!r}, 'w').write('gone')"
    connect = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2)"
    return [
        beside("honest", "1 + 1"),
        beside("loop", "while True: pass"),
        beside("loop_in_c", "sum(iter(int, 1))"),
        beside("loop_stubborn", STUBBORN),
        beside("loop_deaf", DEAF),
        beside("sleep", "time.sleep(10**6)"),
        beside("fork_bomb", BOMB, 0),
        beside("threads", THREADS, 0),
        beside("memory", "x = bytearray(10**12)"),
        beside("memory_slowly", "x = []\nwhile True: x.append(bytearray(10**7))"),
        beside("disk", DISK),
        beside("print_flood", "while True: print('x' * 10**6)"),
        beside("descriptor_hoard", HOARD, 0),
        beside("exit", "sys.exit(0)"),
        beside("exit_hard", "os._exit(0)"),
        beside("abort", "os.abort()"),
        beside("segfault", "import ctypes\nctypes.string_at(0)"),
        beside("kill_self", "os.kill(os.getpid(), signal.SIGKILL)"),
        beside("kill_all", "os.kill(-1, signal.SIGKILL)"),
        beside("stop_self", "os.kill(os.getpid(), signal.SIGSTOP)"),
        beside("daemon", DAEMON),
        beside("burn", burn),
        beside("overwrite", overwrite),
        beside("network", connect),
        beside("search", SEARCH),
        beside("frames", FRAMES),
        beside("escape", ESCAPE),
        beside("rewrite_worker", "open('/box/inside/worker.py', 'w').write('')"),
        beside("patched_writer", WRITER, 0),
        beside("garbage", FLOOD.format(line=b"\xff\x00garbage\n"), 0, most=0, states=("tampered",)),
        beside("forged", FLOOD.format(line=FORGED), 0, most=0, states=("tampered",)),
        beside("forged_cells", FLOOD.format(line=FORGED_CELLS), 0, most=0, states=("tampered",)),
        beside("forged_once", ONCE.format(line=FORGED_CELLS), 0, most=0, states=("tampered",)),
        beside("nested_answer", FLOOD.format(line=b"[" * 100_000 + b"\n"), 0, most=0,
               states=("tampered",)),
        beside("xss", "print('<script>a()</script>')\nraise ValueError('<img src=x onerror=a>')"),
        beside("surrogate", "x = '\ud800'\nraise ValueError('\udfff\x1b[31m')"),
        beside("nul", "x = 1\x00"),
        beside("deep_source", "(" * 20_000 + ")" * 20_000),
        beside("bad_error", "class E(Exception):\n    def __str__(self): os._exit(1)\nraise E"),
        inside("answer_loops", "while True: pass", states=("timed out",)),
        inside("answer_loops_in_c", "sum(iter(int, 1))", states=("timed out",)),
        inside("answer_sleeps", "time.sleep(10**6)", states=("timed out",)),
        inside("answer_exits", "os._exit(0)", states=("crashed",)),
        inside("answer_quits", "sys.exit(0)", states=("error",)),
        inside("answer_kills_parent", "os.kill(os.getppid(), 9)\nreturn 2 * v", 0, ALL),
        inside("answer_stops", "os.kill(os.getpid(), signal.SIGSTOP)", states=("timed out",)),
        inside("answer_recurses", "return double(v)", states=("error",)),
        inside("answer_forges", FLOOD.format(line=FORGED).strip() + "\nreturn v", 0),
        inside("answer_floods", "while True: os.write(1, bytes(10**6))", 0),
        inside("answer_hogs", "return bytearray(10**12)", states=("out of memory",)),
        inside("lying_object", LYING),
        inside("array_subclass", SUBCLASS),
        inside("objects", "return np.array([object()] * 4)", states=("error",)),
        inside("huge", "return np.zeros(10**7)", states=("error",)),
        inside("not_a_number", "return v * float('nan')", states=("failed",)),
        inside("named", "return 3 * v", states=("failed",)),
        inside("unwritten", "raise NotImplementedError", states=("not written",)),
        Attack("patched_numpy", (GIVEN, PATCHED, "def double(v): return v", TOTAL), most=HALF),
        Attack("fake_torch", (GIVEN, FAKE_TORCH, "def double(v): return v", TOTAL), most=HALF),
        Attack("nothing", ("1 + 1",), most=0, states=("missing",)),
        Attack("broken", data=b'{"cells": [', most=0, states=("unreadable",)),
        Attack("empty", data=b"", most=0, states=("unreadable",)),
        Attack("nested", data=b"[" * 200_000, most=0, states=("unreadable",)),
        Attack("list", data=b"[1, 2]", most=0, states=("unreadable",)),
        Attack("types", data=b'{"cells": [1, {"cell_type": "code", "source": {"a": 1}}]}', most=0),
        Attack("latin", data=b'{"cells": "\xe9"}', most=0, states=("unreadable",)),
        Attack("utf16", data=notebook((GIVEN, DOUBLE, TOTAL)).decode().encode("utf-16"), least=ALL),
        Attack("bom", data=b"\xef\xbb\xbf" + notebook((GIVEN, DOUBLE, TOTAL)), least=ALL),
        beside("=cmd|' calc'!A0", "1"),
        beside("@<img src=x onerror=alert(1)>", "1"),
        beside("..\\..\\%2e%2e%2fup", "1"),
    ]  # fmt: skip


def write(folder: Path, canary: Path, port: int) -> list[Attack]:
    """Write them all as a class would hand them in; a link and a pipe come with them."""
    folder.mkdir()
    every = attacks(canary, port)
    for attack in every:
        data = notebook(attack.cells) if attack.data is None else attack.data
        (folder / f"{attack.name}_toy.ipynb").write_bytes(data)
    (folder / "link_toy.ipynb").symlink_to(canary / "file")
    os.mkfifo(folder / "pipe_toy.ipynb")
    broken = [Attack(name, most=0, states=("unreadable",)) for name in ("link", "pipe")]
    return every + broken
