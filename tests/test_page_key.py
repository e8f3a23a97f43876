"""A page runs again when, and only when, something its cells can see has changed."""

from functools import cache

import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from tools.book import ROOT, code_pages, read_page
from tools.page_key import ADDRESS, NAMED, dependencies, page_key, stamped, unexpected

FRONT = "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n"
PAGE = FRONT + "# Title\n\n```{code-cell}\nfrom adversarial_lab.pgd import pgd\n```\n"
FILES = {
    "adversarial_lab/__init__.py": "",
    "adversarial_lab/pgd.py": "from adversarial_lab import threat\nfrom .nets import net\n",
    "adversarial_lab/threat.py": "def lazy():\n    import adversarial_lab.runs.record\n",
    "adversarial_lab/nets.py": "import torch\nWEIGHTS = files('adversarial_lab') / 'weights'\n",
    "adversarial_lab/runs/__init__.py": "",
    "adversarial_lab/runs/record.py": "from ..figures import draw\n",
    "adversarial_lab/figures.py": "",
    "adversarial_lab/weights/cnn.safetensors": "weights",
    "requirements.txt": "torch",
}
ELSEWHERE = {
    "adversarial_lab/trades.py": "",
    "adversarial_lab/runs/trades.py": "from adversarial_lab.trades import trades\n",
    "adversarial_lab/records.py": "from importlib import import_module\n"
    "def ask(run):\n    import_module(f'adversarial_lab.runs.{run}')\n"
    "def made_by(run):\n    return Path('results').glob(f'{run}-*.json')\n",
    "adversarial_lab/quiz.py": "FOLDER = files('adversarial_lab') / '_quiz'\n",
    "adversarial_lab/_quiz/pgd.json": "[]",
    "adversarial_lab/_quiz/trades.json": "[]",
    "adversarial_lab/_data/digits.png": "digits",
    "adversarial_lab/late/__init__.py": "HOMES = {'answer': 'inner', 'other': 'outer'}\n"
    "def __getattr__(name):\n"
    "    return getattr(import_module(f'{__name__}.{HOMES[name]}'), name)\n",
    "adversarial_lab/late/inner.py": "",
    "adversarial_lab/late/outer.py": "from adversarial_lab import trades\n",
    "book/results/pgd-0.json": "{}",
    "book/results/trades-0.json": "{}",
    "exercises/pgd/tests.py": "",
}
LATE = "def __getattr__(name):\n    return import_module(f'{__name__}.{name}')\n"


@pytest.fixture
def root(tmp_path):
    for name, content in {**FILES, **ELSEWHERE}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def cells(*code):
    return FRONT + "".join(f"\n```{{code-cell}}\n{one}\n```\n" for one in code)


def found(root, *code):
    """What the cells depend on, as paths from the root, less what every page depends on."""
    files = {p.relative_to(root).as_posix() for p in dependencies(cells(*code), root)}
    return files - {"requirements.txt", "adversarial_lab/__init__.py"}


def library(*names):
    return {f"adversarial_lab/{name}" for name in names}


@pytest.mark.parametrize("name", sorted(FILES))
def test_an_edit_of_what_the_page_sees_changes_its_key(root, name):
    before = page_key(PAGE, root)
    (root / name).write_text(FILES[name] + "# edited\n")
    assert page_key(PAGE, root) != before


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_an_edit_elsewhere_does_not(root, name):
    before = page_key(PAGE, root)
    (root / name).write_text(ELSEWHERE[name] + "# edited\n")
    (root / "adversarial_lab/pgd.pyc").write_text("compiled")
    (root / "book/pgd.md").write_text(PAGE)
    assert page_key(PAGE, root) == before


def test_a_file_that_appears_or_goes_changes_the_key(root):
    text = cells("from adversarial_lab.records import made_by\nmade_by('pgd')")
    keys = {page_key(text, root)}
    (root / "book/results/pgd-1.json").write_text("{}")
    keys.add(page_key(text, root))
    (root / "book/results/pgd-0.json").unlink()
    keys.add(page_key(text, root))
    assert len(keys) == 3


@pytest.mark.parametrize(
    "code",
    [
        "import adversarial_lab.trades as t",
        "from adversarial_lab import trades",
        "if True:\n    from adversarial_lab.trades import f",
        "def later():\n    from adversarial_lab.trades import f",
        "%matplotlib inline\n!ls\nfrom adversarial_lab.trades import f\nf?",
        "%time from adversarial_lab import trades",
        "%%time\nfrom adversarial_lab import trades",
        "!python -m adversarial_lab.trades",
        "%run run.py",
        "import importlib\nimportlib.import_module('adversarial_lab.' + 'trades')",
        "import importlib\nimportlib.import_module(name)",
        "import importlib\nload = importlib.import_module\nload('adversarial_lab.trades')",
        "from importlib import import_module as load\nload(name)",
        "import importlib\ngetattr(importlib, 'import_module')(name)",
        "import importlib\nimportlib.import_module('.trades', 'adversarial_lab')",
        "from importlib import import_module\nimport_module(f'adversarial_lab.{name}')",
        "__import__('adversarial_lab.trades')",
        "import runpy\nrunpy.run_module(name)",
        "import pkgutil\npkgutil.resolve_name('adversarial_lab.trades:f')",
        "LATER = {'t': 'adversarial_lab.trades'}",
    ],
)
def test_every_way_of_importing_is_seen(root, code):
    assert "adversarial_lab/trades.py" in found(root, code)


@pytest.mark.parametrize(
    "code",
    [
        "from importlib import import_module\nimport_module('adversarial_lab.nets')",
        "from importlib import import_module\nimport_module(f'adversarial_lab.late.{name}')",
        "from importlib import import_module\nimport_module(f'torch.{name}')",
        "from adversarial_lab import nets\nprint('adversarial_lab/trades.py')",
    ],
)
def test_a_name_that_says_more_asks_for_less(root, code):
    assert "adversarial_lab/quiz.py" not in found(root, code)


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import adversarial_lab as al\nal.trades.trades()", ["trades.py"]),
        ("import adversarial_lab\nadversarial_lab.trades", ["trades.py"]),
        ("import adversarial_lab as al\nal.__version__", []),
        ("import adversarial_lab as al", []),
        ("from adversarial_lab import figures", ["figures.py"]),
        ("import adversarial_lab as al\nal.late.inner", ["late/__init__.py", "late/inner.py"]),
    ],
)
def test_a_package_that_imports_on_demand_is_asked_by_attribute(root, code, modules):
    (root / "adversarial_lab/__init__.py").write_text(LATE)
    assert found(root, code) == library(*modules)


@pytest.mark.parametrize(
    "code",
    [
        "import adversarial_lab as al\ngetattr(al, name)",
        "import adversarial_lab as al\nother = al\nother.trades",
        "import adversarial_lab as al\nal.unknown",
        "from adversarial_lab import *",
        "from adversarial_lab import unknown",
        "import adversarial_lab as al\nvars(al)",
    ],
)
def test_what_such_a_package_may_be_asked_for_counts(root, code):
    (root / "adversarial_lab/__init__.py").write_text(LATE)
    assert library("trades.py", "quiz.py", "late/inner.py") <= found(root, code)


@pytest.mark.parametrize(
    "code", ["__getattr__, __dir__ = attach(__name__)", "from other import __getattr__"]
)
def test_a_package_whose_attributes_somebody_else_makes_may_import_anything_below(root, code):
    (root / "adversarial_lab/__init__.py").write_text(code)
    asked = found(root, "import adversarial_lab as al\nal.unknown()")
    assert library("trades.py", "quiz.py") <= asked


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("from adversarial_lab.late import answer", ["inner"]),
        ("from adversarial_lab import late\nlate.answer()", ["inner"]),
        ("from adversarial_lab.late import inner", ["inner"]),
        ("from adversarial_lab.late import HOMES", []),
        ("from adversarial_lab.late import other", ["outer", "../trades"]),
        ("from adversarial_lab.late import unknown", ["inner", "outer", "../trades"]),
        ("from adversarial_lab import late\nprint(late)", ["inner", "outer", "../trades"]),
    ],
)
def test_a_table_of_attributes_is_read(root, code, modules):
    files = {f"late/{module}.py".replace("late/../", "") for module in ["__init__", *modules]}
    assert found(root, code) == library(*files)


@pytest.mark.parametrize(
    ("code", "records", "run"),
    [
        ("from adversarial_lab.records import made_by\nmade_by('pgd')", {"pgd"}, False),
        ("from adversarial_lab import records\nrecords.made_by('trades')", {"trades"}, False),
        ("import adversarial_lab.records as r\n[r.ask('trades')]", {"trades"}, True),
        ("from adversarial_lab.records import ask as a\na('trades')", {"trades"}, True),
        ("from adversarial_lab.records import ask\nask(name)", {"pgd", "trades"}, True),
        ("from adversarial_lab.records import ask\nmap(ask, names)", {"pgd", "trades"}, True),
        ("from adversarial_lab.records import ask", {"pgd", "trades"}, True),
        ("from adversarial_lab import records\nr = records\nr.ask()", {"pgd", "trades"}, True),
        ("from adversarial_lab.records import *", {"pgd", "trades"}, True),
        ("from adversarial_lab.records import table\ntable()", set(), False),
        ("from adversarial_lab.records import ask\nask('none')", set(), False),
    ],
)
def test_a_page_depends_on_the_records_it_asks_for_and_their_run(root, code, records, run):
    asked = found(root, code)
    assert {p[13:-7] for p in asked if p.startswith("book/results")} == records
    assert ("adversarial_lab/runs/trades.py" in asked) == run


def test_asking_for_a_record_in_another_cell_than_the_import_counts(root):
    asked = found(root, "from adversarial_lab.records import ask", "ask('trades')")
    assert "book/results/trades-0.json" in asked
    assert "book/results/pgd-0.json" not in asked


@pytest.mark.parametrize(
    "folder", ["Path('results')", "Path('book/results/x.json')", "f'results/{x}'"]
)
def test_a_page_that_names_the_folder_of_records_depends_on_them_all(root, folder):
    assert {"book/results/pgd-0.json", "book/results/trades-0.json"} <= found(root, folder)


def test_a_run_on_its_way_is_no_record(root):
    for name in ("pgd-1.json.partial", "pgd-1.checkpoint.safetensors"):
        (root / "book/results" / name).touch()
    assert {p for p in found(root, "'results'") if "pgd" in p} == {"book/results/pgd-0.json"}


def test_a_page_depends_on_its_own_questions(root):
    asked = found(root, "from adversarial_lab.quiz import quiz\nquiz('pgd')")
    assert asked == library("quiz.py", "_quiz/pgd.json")


def test_a_page_depends_on_the_data_that_it_or_its_library_names(root):
    assert "adversarial_lab/_data/digits.png" in found(root, "files('adversarial_lab') / '_data'")
    (root / "adversarial_lab/nets.py").write_text("PATH = '_data/digits.png'")
    assert "adversarial_lab/_data/digits.png" in found(root, "from adversarial_lab import nets")


def test_a_page_that_names_the_exercises_depends_on_them(root):
    assert "exercises/pgd/tests.py" in found(root, 'Path("exercises")')
    assert "exercises/pgd/tests.py" not in found(root, 'Path("demos")')


def test_a_page_without_the_library_depends_on_the_requirements_only(root):
    assert dependencies(cells("import json"), root) == {root / "requirements.txt"}


def test_a_page_that_is_not_run_is_left_alone(root):
    assert stamped("# Notation\n", root) == "# Notation\n"


def test_what_a_page_opened_without_its_key_knowing_is_told(root):
    known = [root / "adversarial_lab/pgd.py", root / "requirements.txt"]
    free = [root / "_build/x", root / ".venv/x", root / "gone.py", root / "book", root.parent / "x"]
    for path in free[:2]:
        path.parent.mkdir()
        path.touch()
    wrong = [root / "adversarial_lab/trades.py", root / "book/results/pgd-0.json"]
    assert unexpected([*known, *free, *wrong], PAGE, root) == wrong


def test_the_cache_forgets_a_page_whose_library_changed(root, tmp_path):
    cache = get_cache(tmp_path / "cache")
    cache.cache_notebook_bundle(
        CacheBundleIn(read_page(stamped(PAGE, root)), "book/pgd.md"), check_validity=False
    )
    assert cache.match_cache_notebook(read_page(stamped(PAGE, root)))
    (root / "adversarial_lab/threat.py").write_text("# edited")
    with pytest.raises(KeyError):
        cache.match_cache_notebook(read_page(stamped(PAGE, root)))


# The book itself.


@cache
def seen_by():
    """The files that each page of the book depends on."""
    return {p.stem: dependencies(p.read_text(encoding="utf-8")) for p in code_pages()}


def rerun(name):
    """The pages that run again after an edit of a file."""
    assert (ROOT / name).is_file()
    return {stem for stem, files in seen_by().items() if ROOT / name in files}


def test_an_edit_costs_what_it_should():
    assert rerun("adversarial_lab/exercises/grading.py") == set()
    assert rerun("adversarial_lab/runs/__main__.py") == set()
    nash = rerun("adversarial_lab/meanfield/nash.py")
    assert "meanfield" in nash and nash <= {"meanfield", "full_scale"}
    trades = rerun("adversarial_lab/trades.py")
    assert "trades" in trades and len(trades) <= 4
    assert len(rerun("adversarial_lab/threat.py")) > 10
    assert len(rerun("requirements.txt")) == len(code_pages())


def test_a_new_address_runs_no_page_again_and_no_page_may_open_it():
    assert rerun(ADDRESS) == set()
    for page in code_pages():
        text = page.read_text(encoding="utf-8")
        assert unexpected([ROOT / ADDRESS], text) == [ROOT / ADDRESS]


def test_every_page_depends_on_its_own_module_and_questions():
    for stem in set(seen_by()) - {"index", "instructors", "full_scale"}:
        places = (f"adversarial_lab/{stem}.py", f"adversarial_lab/{stem}/__init__.py")
        module = next(place for place in places if (ROOT / place).is_file())
        assert stem in rerun(module)
        assert rerun(f"adversarial_lab/_quiz/{stem}.json") == {stem}


@pytest.mark.parametrize("run", ["wrm", "meanfield", "overlap", "bounds", "certificates", "cka"])
def test_a_new_record_runs_the_pages_again_that_ask_for_its_run(run):
    asking = {p.stem for p in code_pages() if f'"{run}"' in p.read_text(encoding="utf-8")}
    for path in (ROOT / "book/results").glob(f"{run}-*.json"):
        assert rerun(path.relative_to(ROOT)) == asking


def test_the_functions_that_are_named_are_there():
    for name in NAMED:
        module, _, function = name.rpartition(".")
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        assert f"def {function}(" in text or f"class {function}" in text
