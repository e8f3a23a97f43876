"""A page runs again when, and only when, something its cells can see has changed."""

import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from tools.book import read_page
from tools.page_key import dependencies, page_key, stamped

FRONT = "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n"
PAGE = FRONT + "# Title\n\n```{code-cell}\nfrom adversarial_lab.pgd import pgd\n```\n"
FILES = {
    "adversarial_lab/__init__.py": "",
    "adversarial_lab/pgd.py": "from adversarial_lab import threat\nfrom .nets import net\n",
    "adversarial_lab/threat.py": "def lazy():\n    import adversarial_lab.runs.record\n",
    "adversarial_lab/nets.py": "import torch\n",
    "adversarial_lab/runs/__init__.py": "",
    "adversarial_lab/runs/record.py": "from ..figures import draw\n",
    "adversarial_lab/figures.py": "",
    "adversarial_lab/trades.py": "",
    "adversarial_lab/weights/cnn.safetensors": "weights",
    "book/results/pgd.json": "{}",
    "requirements.txt": "torch",
}


@pytest.fixture
def root(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def cells(code):
    return f"{FRONT}\n```{{code-cell}}\n{code}\n```\n"


@pytest.mark.parametrize("name", sorted(set(FILES) - {"adversarial_lab/trades.py"}))
def test_an_edit_of_what_the_page_sees_changes_its_key(root, name):
    before = page_key(PAGE, root)
    (root / name).write_text(FILES[name] + "# edited\n")
    assert page_key(PAGE, root) != before


def test_an_edit_elsewhere_does_not(root):
    before = page_key(PAGE, root)
    (root / "adversarial_lab/trades.py").write_text("# edited")
    (root / "adversarial_lab/trades.pyc").write_text("compiled")
    (root / "book/pgd.md").write_text(PAGE)
    assert page_key(PAGE, root) == before


@pytest.mark.parametrize(
    "code",
    [
        "import adversarial_lab.trades as t",
        "from adversarial_lab import trades",
        "if True:\n    from adversarial_lab.trades import f",
        "%matplotlib inline\n!ls\nfrom adversarial_lab.trades import f\nf?",
        "import importlib\nimportlib.import_module('adversarial_lab.' + 'trades')",
    ],
)
def test_every_way_of_importing_is_seen(root, code):
    assert root / "adversarial_lab/trades.py" in dependencies(cells(code), root)


def test_a_page_that_names_the_exercises_depends_on_them(root):
    text = cells('Path("exercises")')
    before, other = page_key(text, root), page_key(PAGE, root)
    (root / "exercises/pgd").mkdir(parents=True)
    (root / "exercises/pgd/tests.py").write_text("QUESTIONS = {}")
    assert page_key(text, root) != before
    assert page_key(PAGE, root) == other


def test_a_page_without_the_library_depends_on_results_and_requirements_only(root):
    found = dependencies(cells("import json"), root)
    assert found == {root / "requirements.txt", root / "book/results/pgd.json"}


def test_a_page_that_is_not_run_is_left_alone(root):
    assert stamped("# Notation\n", root) == "# Notation\n"


def test_the_cache_forgets_a_page_whose_library_changed(root, tmp_path):
    cache = get_cache(tmp_path / "cache")
    cache.cache_notebook_bundle(
        CacheBundleIn(read_page(stamped(PAGE, root)), "book/pgd.md"), check_validity=False
    )
    assert cache.match_cache_notebook(read_page(stamped(PAGE, root)))
    (root / "adversarial_lab/threat.py").write_text("# edited")
    with pytest.raises(KeyError):
        cache.match_cache_notebook(read_page(stamped(PAGE, root)))
