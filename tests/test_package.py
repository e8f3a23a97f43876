"""What is in the distribution, and that it works where nothing of the checkout is in reach."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import distribution
import pytest

import adversarial_lab
from tools.book import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return distribution.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Where the wheel is unpacked, and an environment that sees it and no clone."""
    site = tmp_path_factory.mktemp("a site")
    return site, distribution.install(built[1], site)


def shipped():
    files = [p for p in (ROOT / "adversarial_lab").rglob("*") if p.is_file()]
    return {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}


@pytest.mark.slow
def test_the_wheel_holds_the_library_its_data_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == shipped()
    assert any(name.startswith("adversarial_lab/_data/") for name in inside)
    assert any(name.endswith("/LICENSE") for name in names - inside)
    assert "adversarial_lab/py.typed" in inside


@pytest.mark.slow
def test_the_sdist_holds_what_a_packager_needs(built):
    with tarfile.open(built[0]) as sdist:
        names = {str(PurePosixPath(*PurePosixPath(n).parts[1:])) for n in sdist.getnames()}
    assert shipped() <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/test_package.py"} <= names
    assert kept_in_git() <= names, "its tests read every part of the repository"
    assert not any(name.startswith(("_build", ".venv", ".git/")) for name in names)


def kept_in_git():
    """The files of the repository; none where this is no clone."""
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        return set()
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


USE = """
import json
import pathlib
from importlib.metadata import version
import adversarial_lab
from adversarial_lab import data, nets
from adversarial_lab.threat import ThreatModel

images = data.load("mnist-mini", "test", 20)
x = ThreatModel(norm="linf", eps=0.1).sample(images.x)
right = {name: int((nets.shipped(name)(x).argmax(1) == images.y).sum()) for name in NAMES}
report = {
    "home": str(pathlib.Path(adversarial_lab.__file__).parent),
    "version": version("adversarial-lab-companion"),
    "right": right,
}
print(json.dumps(report))
"""


@pytest.mark.slow
def test_the_installed_wheel_works_with_its_data_and_weights(installed, tmp_path):
    site, environment = installed
    names = [p.stem for p in (ROOT / "adversarial_lab/weights").glob("*.safetensors")]
    assert names, "the package ships no trained network"
    program = [sys.executable, "-c", USE.replace("NAMES", repr(names))]
    done = subprocess.run(
        program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["home"] == str(site / "adversarial_lab")
    assert report["version"] == adversarial_lab.__version__
    assert min(report["right"].values()) >= 15, "on 20 digits with noise, chance is 2"


@pytest.mark.slow
@pytest.mark.parametrize("command", [["grade", "submitted", "--seed", "s"], ["check"], ["build"]])
def test_without_a_clone_the_exercises_cannot_be_graded_and_say_so(installed, tmp_path, command):
    words = [sys.executable, "-m", "adversarial_lab.exercises", *command]
    done = subprocess.run(words, cwd=tmp_path, env=installed[1], capture_output=True, check=False)
    assert done.returncode == 1 and done.stdout == b""
    said = done.stderr.decode()
    assert said.count("\n") == 1 and "needs a clone" in said and "--root" in said


@pytest.mark.slow
def test_the_wheel_has_a_console_command(installed, tmp_path):
    site, environment = installed
    command = [site / "bin/adversarial-lab", "version"]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert said.stdout.decode().strip() == adversarial_lab.__version__


@pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv", reason="not in the environment that make installs"
)
def test_where_make_installed_the_library_can_be_imported_from_anywhere(tmp_path):
    program = "import adversarial_lab; print(adversarial_lab.__file__)"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, check=True)
    assert Path(said.stdout.decode().strip()) == ROOT / "adversarial_lab/__init__.py"


FRONT = """
import sys
import adversarial_lab as al

contents = dir(al)
assert "torch" not in sys.modules and "numpy" not in sys.modules, "the front door is heavy"
assert al.pgd.pgd.__module__ == "adversarial_lab.pgd" and "torch" in sys.modules
assert "adversarial_lab.trades" not in sys.modules
print(*contents)
"""


def test_the_front_door_is_a_table_of_contents_and_loads_a_part_when_it_is_named():
    done = subprocess.run(
        [sys.executable, "-c", FRONT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folder = ROOT / "adversarial_lab"
    public = {p.stem for p in folder.glob("[!_]*.py")}
    public |= {p.parent.name for p in folder.glob("[!_]*/__init__.py")}
    assert set(done.stdout.split()) == public | {"check", "check_all", "export", "__version__"}


def test_every_part_is_reached_by_its_name_and_nothing_else_is():
    parts = set(dir(adversarial_lab)) - {"check", "check_all", "export", "__version__"}
    assert {getattr(adversarial_lab, p).__name__ for p in parts} == {
        f"adversarial_lab.{p}" for p in parts
    }
    with pytest.raises(AttributeError, match="no attribute 'pdg'; it has .*'pgd'"):
        adversarial_lab.pdg  # noqa: B018
