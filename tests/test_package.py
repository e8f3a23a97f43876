"""What is in the distribution, and that it works where nothing of the checkout is in reach."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

import distribution
import pytest

import adversarial_lab
from tools.book import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return distribution.build(tmp_path_factory.mktemp("dist"))


def shipped():
    files = [p for p in (ROOT / "adversarial_lab").rglob("*") if p.is_file()]
    return {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}


def test_the_wheel_holds_the_library_its_data_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == shipped()
    assert any(name.startswith("adversarial_lab/_data/") for name in inside)
    assert any(name.endswith("/LICENSE") for name in names - inside)


def test_the_sdist_holds_what_a_packager_needs(built):
    with tarfile.open(built[0]) as sdist:
        names = {str(PurePosixPath(*PurePosixPath(n).parts[1:])) for n in sdist.getnames()}
    assert shipped() <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/test_package.py"} <= names
    assert not any(name.startswith(("_build", ".venv", ".git/")) for name in names)


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


def test_the_installed_wheel_works_with_its_data_and_weights(built, tmp_path):
    site = tmp_path / "site"
    environment = distribution.install(built[1], site)
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
    assert set(done.stdout.split()) == public | {"check", "__version__"}


def test_every_part_is_reached_by_its_name_and_nothing_else_is():
    parts = set(dir(adversarial_lab)) - {"check", "__version__"}
    assert {getattr(adversarial_lab, p).__name__ for p in parts} == {
        f"adversarial_lab.{p}" for p in parts
    }
    with pytest.raises(AttributeError, match="no attribute 'pdg'; it has .*'pgd'"):
        adversarial_lab.pdg  # noqa: B018
