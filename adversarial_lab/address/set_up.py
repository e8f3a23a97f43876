"""What the first cell of every notebook does, where the library may not be installed yet.

The notebooks carry the text below as it stands, so it imports nothing but the standard library.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path


def set_up(address):
    """Install adversarial_lab unless it is there: from its address, else from a wheel."""
    failed = []
    for source in (lambda: address, _wheel):
        if _installed():
            return
        if where := source():
            print(f"Installing {where}")
            failed.append(f"\n{where}: {_pip(where)}")
    if not _installed():
        raise RuntimeError(
            "adversarial_lab is not installed. Put adversarial_lab_companion-....whl beside this"
            " notebook and run this cell again. `pip wheel --no-deps .` makes the wheel in a copy"
            f" of the project; `pip install .` there does without.{''.join(failed)}"
        )


def _installed():
    if "adversarial_lab" in sys.modules:
        return True
    found = find_spec("adversarial_lab")
    return found is not None and found.origin is not None  # else a mere folder of that name


def _pip(where):
    """Install it; returns the end of what pip complained of."""
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *quiet, where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    invalidate_caches()
    return done.stderr.strip()[-600:] if done.returncode else "installed: restart the kernel"


def _wheel():
    """The newest wheel beside the notebook, else one that the reader picks, in Colab; else None."""
    pattern = "adversarial_lab_companion-*.whl"
    if not any(Path().glob(pattern)) and "google.colab" in sys.modules:
        from google.colab import files

        print(f"Choose the wheel, {pattern}")
        files.upload()  # which saves it beside the notebook
    found = max(Path().glob(pattern), key=lambda path: path.stat().st_mtime, default=None)
    if found is None:
        return None
    name = re.sub(r" *\(\d+\)", "", found.name)  # as browsers call what was downloaded twice
    return str(shutil.copy(found, Path(tempfile.mkdtemp(), name)))
