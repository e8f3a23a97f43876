"""Kernels for the pages, forked from one process that has imported torch, and what they open.

A dozen kernels would import torch, scipy and matplotlib a dozen times, at five seconds each. They
are forked instead from a server that has done so once and has run nothing else. The library is
not shared: every kernel imports it itself, so that the files it opens are those of its page.
"""

import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import source_from_cache
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from tools.imports import PACKAGE

LOG = "ADVERSARIAL_LAB_OPENED"  # the file in which a kernel notes the files that it opens
IMPORTED = [
    "ipykernel.kernelapp",
    "jaxtyping",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.sparse.csgraph",
    "scipy.spatial",
    "scipy.stats",
    "torch",
    "tqdm.auto",
]
# the build is the main program of its kernels, and has been imported for them already
warnings.filterwarnings("ignore", "'tools.build_book' found in sys.modules", RuntimeWarning)
KERNELS = multiprocessing.get_context("forkserver")
KERNELS.set_forkserver_preload(["tools.build_book", *IMPORTED])


@dataclass(frozen=True)
class Execution:
    """What came of running a page: seconds, the files it opened, and its error if there was one."""

    seconds: float
    opened: frozenset[Path]
    error: str = ""


def execute(notebook: NotebookNode, folder: Path, timeout: int) -> Execution:
    """Run the cells in a fresh kernel in `folder`; their outputs go into `notebook`.

    timeout: seconds for the kernel to start and for each cell.
    """
    client = NotebookClient(
        notebook,
        km=_manager(),
        timeout=timeout,
        startup_timeout=timeout,
        extra_arguments=["--IPKernelApp.log_level=50"],
        resources={"metadata": {"path": folder}},
        record_timing=False,  # the cache would not know the page again
    )
    began, error = time.monotonic(), ""
    with TemporaryDirectory() as scratch:
        log = Path(scratch) / "opened"
        log.touch()
        try:
            client.execute(cleanup_kc=True, env={**os.environ, LOG: str(log)})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as problem:
            error = str(problem)
        opened = frozenset(map(_source, log.read_text(encoding="utf-8").splitlines()))
    return Execution(time.monotonic() - began, opened, error)


def _manager() -> AsyncKernelManager:
    manager = AsyncKernelManager(kernel_name="python3")
    manager.provisioner = Forked(parent=manager, kernel_spec=manager.kernel_spec, kernel_id="page")
    return manager


def _source(line: str) -> Path:
    path = Path(line)
    return Path(source_from_cache(line)) if path.suffix == ".pyc" else path


class Kernel(KERNELS.Process):  # type: ignore[name-defined]
    """A forked kernel, with what Jupyter asks of a subprocess."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], folder: str, environment: dict[str, str]) -> None:
        super().__init__()
        self.command, self.folder, self.environment = command, folder, environment

    def run(self) -> None:
        """Become the kernel that the command would start."""
        from ipykernel.kernelapp import IPKernelApp

        os.setsid()  # Ctrl-C in a terminal is for the build
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        for name in [n for n in sys.modules if n.split(".")[0] == PACKAGE]:
            del sys.modules[name]  # the build has imported it, the page has not
        note_opened_files(self.environment[LOG])
        IPKernelApp.launch_instance(argv=self.command[self.command.index("-f") :])

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        if self.pid and self.exitcode is None:
            os.kill(self.pid, number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


def note_opened_files(log: str) -> None:
    """Write the path of every file that this process opens, once it does, to the file `log`."""
    import safetensors.torch

    target = os.open(log, os.O_WRONLY | os.O_APPEND)
    noted: set[str] = set()

    def note(path: Any) -> None:
        name = os.path.abspath(os.fsdecode(path))
        if name not in noted:
            noted.add(name)
            os.write(target, f"{name}\n".encode())

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            note(arguments[0])

    sys.addaudithook(hook)
    safetensors.torch.safe_open = _telling(note, safetensors.torch.safe_open)  # type: ignore


def _telling(note: Callable[[Any], None], opens: Callable) -> Callable:
    """`opens`, which the hook does not hear because it is not written in Python."""

    def telling(path: Any, *rest: Any, **more: Any) -> Any:
        note(path)
        return opens(path, *rest, **more)

    return telling


class Forked(LocalProvisioner):
    """Jupyter's way to start a kernel, by forking."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        self.process = Kernel(cmd, str(options["cwd"]), options["env"])
        self.process.start()
        self.pid, self.cwd = self.process.pid, options["cwd"]
        return self.connection_info
