"""The generated notebooks: plain, up to date, and running where only the package is installed."""

import os
import re
import shutil
import subprocess

import distribution
import nbformat
import pytest
from nbclient import NotebookClient

from adversarial_lab import address
from tools import build_book
from tools.book import ROOT, code_pages
from tools.export_notebooks import NOTEBOOKS, demos, exported

SHORT = {"cka", "full_scale", "instructors", "meanfield"}
PAGES = [page.stem for page in code_pages()]
STEMS = PAGES + [demo.stem for demo in demos()]
RAW = re.compile(
    r"^ *(`{3,}|:{3,})\{|\{[a-z][\w:-]*\}`|^:{3,}|^\([\w-]+\)=|\]\([\w/-]+\.md|^---$", re.MULTILINE
)


def read(stem):
    return nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    _, wheel = distribution.build(tmp_path_factory.mktemp("dist"))
    return distribution.install(wheel, tmp_path_factory.mktemp("site"))


def test_every_page_with_code_and_every_demo_has_its_notebook_and_nothing_else_does():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(STEMS)


@pytest.mark.book
def test_the_notebooks_are_what_the_pages_give():
    assert build_book.is_current(), "the built book is older than its sources: run `make book`"
    assert {path: path.read_text(encoding="utf-8") for path in exported()} == exported()


@pytest.mark.skipif(
    not (shutil.which("git") and (ROOT / ".git").exists()), reason="there is no git, or no clone"
)
def test_the_notebooks_are_committed_with_their_pages():
    def changed(*paths):
        command = ["git", "status", "--porcelain", "--", *paths]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout

    at_work = changed(*"adversarial_lab/address book demos tools _config.yml _toc.yml _ext".split())
    assert at_work or not changed("notebooks"), "commit notebooks/ as `make book` wrote them"


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_has_no_raw_markup(stem):
    notebook = read(stem)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(`{3,})[^{\n]*\n.*?^\1$", "", cell.source, flags=re.M | re.S)
            assert not RAW.search(prose), cell.source


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_opens_with_the_set_up_from_the_address(stem):
    first, *_ = (cell for cell in read(stem).cells if cell.cell_type == "code")
    assert first.source.endswith(f'\n\n\nset_up("{address.read().requirement}")')
    assert first.source.startswith("# @title Set up") and f"{stem}.md: edit" in first.source


@pytest.mark.slow
@pytest.mark.parametrize("stem", PAGES)  # the demos run in test_demos.py
@pytest.mark.filterwarnings("default")
def test_a_notebook_runs_outside_the_checkout(stem, environment, tmp_path):
    """By default the short ones that look for the checkout's folders; the book has just run all."""
    if stem not in SHORT and os.environ.get("ADVERSARIAL_LAB_NOTEBOOKS") != "all":
        pytest.skip("run by ADVERSARIAL_LAB_NOTEBOOKS=all")
    here = {"metadata": {"path": tmp_path}}
    client = NotebookClient(read(stem), timeout=600, startup_timeout=600, resources=here)
    client.execute(env=environment)
    streams = [out for cell in client.nb.cells for out in cell.get("outputs", [])]
    assert not any("Installing" in out.get("text", "") for out in streams)
