"""The distribution, built and installed as a reader gets it; shared by two test files."""

import os
import subprocess
import sys
from pathlib import Path

from tools.book import ROOT


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it; offline, with the installed hatchling."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def install(wheel: Path, folder: Path) -> dict[str, str]:
    """Unpack the wheel with pip; returns an environment that sees it and not the checkout."""
    options = ["--quiet", "--no-deps", "--no-index", "--target", folder]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    book_only = {"ADVERSARIAL_LAB_STATIC", "ADVERSARIAL_LAB_DATA"}
    kept = {name: value for name, value in os.environ.items() if name not in book_only}
    return kept | {"PYTHONPATH": str(folder)}
