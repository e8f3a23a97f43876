"""Without its extras, and without what only one part needs, the library imports and says so."""

import re
import subprocess
import sys

import pytest

from adversarial_lab import data, demos
from adversarial_lab.address import advice
from adversarial_lab.needs import or_say
from tools.book import ROOT

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({missing!r}))  # None: an import of it fails
try:
    {code}
except ModuleNotFoundError as error:
    print(error)
"""
ALL = """
    import pkgutil, adversarial_lab
    for module in pkgutil.walk_packages(adversarial_lab.__path__, "adversarial_lab."):
        if not module.name.startswith({draws!r}):
            __import__(module.name)
            print(module.name)
"""
EXTRAS = ("accelerate", "joblib", "distributed", "dask", "pytest", "beartype", "IPython", "yaml")
DRAWING = ("matplotlib", "cycler", "ipywidgets")
DRAWS = ("adversarial_lab.figures", "adversarial_lab.explore")
QUIZ = "from adversarial_lab.quiz import quiz; quiz('pgd').html(); print('works')"
SLIDERS = (
    "from adversarial_lab.explore import explore;"
    " explore(lambda a: None, alt='one two three', a=(0.0, 1.0, 0.5))"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "code", "said"),
    [
        ((*EXTRAS, *DRAWING, "pooch"), ALL.format(draws=DRAWS), "adversarial_lab.runs.sweeps"),
        (DRAWING, QUIZ, "works"),
        (DRAWING, "import adversarial_lab.figures", f"a figure needs matplotlib: {advice()}"),
        (("ipywidgets",), SLIDERS, "a figure with sliders, in a notebook, needs ipywidgets: pip"),
    ],
)
def test_the_rest_works_and_what_cannot_says_what_it_needs(missing, code, said, tmp_path):
    program = WITHOUT.format(missing=missing, code=code)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_without_pooch_the_small_data_sets_are_there_and_the_full_ones_say_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.delenv(data.VARIABLE, raising=False)
    assert len(data.load("mnist-mini", "test", 7).y) == 7
    with pytest.raises(ModuleNotFoundError, match=f"folder {data.VARIABLE} needs pooch: pip inst"):
        data.load("mnist", "test")
    assert len(demos.largest("mnist", "mnist-mini", "test").y) == 1000


@pytest.mark.parametrize("extra", ["", "sweeps"])
def test_what_is_missing_is_named_with_what_installs_it(extra):
    with pytest.raises(ModuleNotFoundError) as caught:
        with or_say("a test needs", extra):
            import nowhere  # noqa: F401
    assert caught.value.name == "nowhere"
    assert str(caught.value) == f"a test needs nowhere: {advice(extra)}"


def test_no_text_advises_the_unpublished_name():
    """Whoever took the name could run code on our readers' machines."""
    files = [p for p in ROOT.rglob("*") if p.suffix in {".py", ".md", ".ipynb", ".yml"}]
    ours = [p for p in files if not {".venv", "_build", ".git"} & set(p.relative_to(ROOT).parts)]
    # the name alone; " @ " and an address behind it is what `make address` sets
    advised = re.compile(r"install ['\"]?adversarial-lab-companion(\[[\w,]*\])?(?!\S* @ )")
    assert advised.search("pip install 'adversarial-" + "lab-companion[gpu]'")
    assert [p for p in ours if advised.search(p.read_text(encoding="utf-8"))] == []


def test_another_failure_passes_as_it_is():
    with pytest.raises(ImportError, match="cannot import name 'no_such_name'"):
        with or_say("a test needs"):
            from json import no_such_name  # noqa: F401
