"""The first cell of a notebook, in an emulated Colab: what it installs, and where it stops."""

import json
import os
import shutil
import subprocess
import sys

import colab
import distribution
import pytest
from nbclient.exceptions import CellExecutionError

from adversarial_lab import address
from adversarial_lab.address import Address, notebooks
from adversarial_lab.exercises.notebooks import STUDENTS
from tools.book import ROOT

LAB = Address("an-author/the-lab", tag="v9.9", site="https://an-author.github.io/the-lab/")
KERNEL = "import IPython, ipywidgets\nprint(IPython.__version__, ipywidgets.__version__)"
SAY = "import adversarial_lab\nprint(adversarial_lab.__version__, adversarial_lab.__file__)"
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "adversarial-lab-companion"
version = "{0}"
requires-python = ">=3.11"
[tool.hatch.build.targets.wheel]
packages = ["adversarial_lab"]
"""

pytestmark = pytest.mark.slow  # kernels, and pip


def first_cell(name, here):
    """The set-up cell of a committed notebook, as it is with an address."""
    committed = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf-8"))
    bare = notebooks.unaddressed(committed, name, address.read())
    cells = notebooks.addressed(bare, name, here)["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def small(folder, version):
    """A project of the library's name that installs in a moment."""
    (folder / "adversarial_lab").mkdir(parents=True)
    text = f"__version__ = '{version}'\ncheck = check_all = export = None\n"
    (folder / "adversarial_lab/__init__.py").write_text(text)
    (folder / "pyproject.toml").write_text(PROJECT.format(version))
    return folder


def wheel(folder, version):
    project = small(folder / version, version)
    options = ["--no-isolation", "--wheel", "--outdir", folder]
    build = [sys.executable, "-m", "build", *options, project]
    subprocess.run(build, check=True, capture_output=True)
    return folder / f"adversarial_lab_companion-{version}-py3-none-any.whl"


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    return colab.versions(tmp_path_factory.mktemp("versions"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    return {version: wheel(folder, version) for version in ("1.0", "2.0")}


@pytest.fixture
def machine(tmp_path, versions):
    """start(picked=...) gives one where the address of LAB leads to `origin`, or nowhere."""

    def start(picked=None, origin="/nowhere"):
        git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf"}
        git["GIT_CONFIG_VALUE_0"] = LAB.source
        return colab.start(tmp_path, versions, picked, PIP_NO_BUILD_ISOLATION="0", **git)

    return start


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A repository with a tag, and a later version on its branch."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("origin")

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        command = ["git", "-C", folder, *identity, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    git("init")
    for version in ("9.9", "10.0"):
        shutil.rmtree(folder / "adversarial_lab", ignore_errors=True)
        small(folder, version)
        git("add", "-A")
        git("commit", "-m", version)
        git("tag", f"v{version}")
    return folder


def test_all_notebooks_begin_alike():
    """So that each test below can take one of them."""
    names = [p.relative_to(ROOT / "notebooks") for p in (ROOT / "notebooks").rglob("*.ipynb")]
    first = {first_cell(name.with_suffix("").as_posix(), LAB) for name in names}
    code = {cell.split("\n", 2)[2].removesuffix(f"\n\n{STUDENTS}") for cell in first}
    assert len(first) == len(names) > 20 and len(code) == 1
    assert code.pop().endswith(f'\n\n\nset_up("{LAB.requirement}")')


@pytest.mark.parametrize("name", ["cka", "demo_attack", "exercises/pgd"])
def test_where_it_is_installed_nothing_happens(name, machine):
    there = machine([])
    there.environment["PYTHONPATH"] = str(ROOT)
    kernel, nothing, said = there.run(KERNEL, first_cell(name, LAB), SAY)
    assert nothing == "" and str(ROOT) in said
    assert kernel == "7.34.0 7.7.1\n" or not colab.ASKED


def test_the_address_at_the_tag_of_the_release_comes_first(machine, origin, wheels):
    there = machine([], origin)
    shutil.copy(wheels["1.0"], there.content)
    printed, said = there.run(first_cell("cka", LAB), SAY)
    assert printed == f"Installing {LAB.requirement}\n"
    assert said.startswith("9.9 ") and str(there.folder) in said


@pytest.mark.parametrize("here", [Address(), LAB], ids=["unset", "out of reach"])
def test_the_newest_wheel_beside_the_notebook_comes_next(here, machine, wheels):
    there = machine([])
    for age, version in enumerate(("1.0", "2.0")):
        copy = shutil.copy(wheels[version], there.content)
        os.utime(copy, (1e9 - age, 1e9 - age))
    printed, said = there.run(first_cell("demo_attack", here), SAY)
    assert said.startswith("1.0 ") and "dialogue" not in printed


@pytest.mark.parametrize(
    ("here", "called"), [(Address(), "{}.whl"), (LAB, "{} (1).whl")], ids=["unset", "out of reach"]
)
def test_a_wheel_can_be_picked_in_colabs_dialogue(here, called, machine, wheels, tmp_path_factory):
    name = called.format(wheels["2.0"].stem)  # the second: as it is called when downloaded twice
    picked = shutil.copy(wheels["2.0"], tmp_path_factory.mktemp("downloads") / name)
    printed, said = machine([picked]).run(first_cell("exercises/pgd", here), SAY)
    assert said.startswith("2.0 ") and "Choose the wheel" in printed


def test_the_librarys_own_wheel_is_installed_and_checks_an_answer(machine, tmp_path_factory):
    _, built = distribution.build(tmp_path_factory.mktemp("dist"))
    there = machine([built])
    answer = "def project_linf(z, x, eps):\n    return z.clamp(x - eps, x + eps).clamp(0, 1)"
    answer += "\n\n\ncheck('pgd.project_linf', project_linf)"
    _, said, checked = there.run(first_cell("exercises/pgd", Address()), SAY, answer)
    assert str(there.folder) in said
    assert "public tests" in checked


@pytest.mark.parametrize(
    ("here", "picked"),
    [(Address(), None), (LAB, []), (LAB, [ROOT / "LICENSE"])],
    ids=["unset, in Jupyter", "out of reach, dialogue cancelled", "another file picked"],
)
def test_without_any_of_them_one_error_says_what_to_do_and_ends_the_run(here, picked, machine):
    there = machine(picked)
    (there.content / "adversarial_lab").mkdir()  # a mere folder is no library
    with pytest.raises(CellExecutionError) as caught:
        there.run(first_cell("cka", here), "open('reached', 'w')")
    assert caught.value.ename == "RuntimeError"
    told = "adversarial_lab is not installed. Put adversarial_lab_companion-....whl beside this"
    assert caught.value.evalue.startswith(told)
    assert caught.value.evalue.count(LAB.requirement) == bool(here)
    assert not (there.content / "reached").exists()


def test_a_broken_wheel_is_named_with_what_pip_says(machine):
    there = machine([])
    (there.content / "adversarial_lab_companion-1.0-py3-none-any.whl").write_text("no zip")
    with pytest.raises(CellExecutionError, match=r"1\.0-py3-none-any\.whl: .*invalid"):
        there.run(first_cell("cka", Address()))
