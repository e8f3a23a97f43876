"""Colab without Colab: a kernel where the library is not installed, with a dialogue for files.

By default the kernel is the one that is installed; with ADVERSARIAL_LAB_COLAB=1, and a network, it
has the versions of Colab.
"""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient

VERSIONS = ["ipython==7.34.0", "ipywidgets==7.7.1", "ipykernel==6.17.1"]
ASKED = os.environ.get("ADVERSARIAL_LAB_COLAB")
UPLOAD = """
import os, shutil

def upload():
    print("The dialogue opens.")
    picked = filter(None, os.environ["PICKED"].split(os.pathsep))
    return {os.path.basename(shutil.copy(path, ".")): b"" for path in picked}
"""


def versions(folder: Path) -> Path | None:
    """Colab's versions of what a kernel is made of, if they are asked for."""
    if not ASKED:
        return None
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *VERSIONS]
    subprocess.run(pip, check=True)
    return folder


@dataclass(frozen=True)
class Machine:
    """One virtual machine: its folder has a kernel, and `content`, where notebooks run."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> Path:
        return self.folder / "content"

    def run(self, *cells: str) -> list[str]:
        """What the cells print, each; CellExecutionError where one fails, and nothing after it."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        here = {"metadata": {"path": self.content}}
        client = NotebookClient(notebook, timeout=600, startup_timeout=600, resources=here)
        client.create_kernel_manager()
        specs = client.km.kernel_spec_manager
        specs.kernel_dirs.insert(0, str(self.folder / "kernels"))
        client.km.kernel_name = "colab"
        client.execute(env=self.environment)
        return ["".join(out.get("text", "") for out in cell.outputs) for cell in notebook.cells]


def start(folder: Path, versions: Path | None, picked: list[Path] | None, **environment) -> Machine:
    """A machine without the library; picked: in the dialogue for files; None: there is none."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = next((folder / "venv").glob("[bS][ic]*/python*"))
    (site,) = (folder / "venv").rglob("site-packages")
    found = [versions, Path(sysconfig.get_path("purelib"))]  # of the tests: pip, a kernel, torch
    (site / "paths.pth").write_text("\n".join(str(path) for path in found if path) + "\n")
    (folder / "content").mkdir()
    if picked is not None:
        (site / "google/colab").mkdir(parents=True)
        (site / "google/colab/files.py").write_text(UPLOAD)
        (site / "google/colab/__init__.py").touch()
        (site / "zz_colab.pth").write_text("import google.colab\n")  # as a kernel of Colab has it
    (folder / "kernels/colab").mkdir(parents=True)
    arguments = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": arguments, "display_name": "Colab", "language": "python"}
    (folder / "kernels/colab/kernel.json").write_text(json.dumps(spec))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "GIT_"))}
    offline = {"PIP_NO_INDEX": "1", "PICKED": os.pathsep.join(map(str, picked or []))}
    return Machine(folder, kept | offline | environment)
