"""The built book with an address and without: buttons, links, and how to run a page."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from adversarial_lab.address import Address
from tools import address as command
from tools.book import ROOT

FRONT = "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n"
TOC = "format: jb-book\nroot: book/index\nchapters: [{file: book/pgd}, {file: book/errata}]\n"
TEXT = "## Section\n\nChecked: {notebook}`exercises/pgd`. Shown: {notebook}`demo_attack`.\n"
LAB = Address("an-author/the-lab", site="https://an-author.github.io/the-lab/")
HERE = "To run this page on your own computer: in a copy of the project, pip install . jupyterlab"

pytestmark = pytest.mark.slow  # Sphinx, three times


@pytest.fixture
def project(tmp_path):
    """A book of three pages, the last of which does not run; no page has a cell."""
    for name in ("_ext", "_theme", "tools", "adversarial_lab/address"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("_vendor", "book", "demos", "exercises/pgd"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("adversarial_lab/__init__.py", "book/references.bib", "requirements.txt"):
        (tmp_path / name).touch()
    for name in ("exercises/pgd/master.md", "demos/demo_attack.md"):
        (tmp_path / name).touch()
    for name in ("index", "pgd", "errata"):
        text = f"{FRONT * (name != 'errata')}# The {name}\n\n{TEXT}"
        (tmp_path / f"book/{name}.md").write_text(text)
    (tmp_path / "_toc.yml").write_text(TOC)
    config = (ROOT / "_config.yml").read_text().replace("notebooks: cache", "notebooks: off")
    (tmp_path / "_config.yml").write_text(config)
    return tmp_path


def build(root, address):
    """The strict build; page -> its HTML."""
    toml = (root / command.SETTING).read_text()
    (root / command.SETTING).write_text(command.setting(toml, address))
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    options = ["--all", "-W", "-n", "--keep-going", "--quiet"]
    done = subprocess.run(
        [jupyter_book, "build", *options, root], capture_output=True, text=True, check=False
    )
    pages = (root / "_build/html/book").glob("*.html")
    return done, {page.stem: page.read_text(encoding="utf-8") for page in pages}


def words(html):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", html)))


def addresses(html):
    """Every other place that a page speaks of; namespaces of pictures are none."""
    return {a for a in re.findall(r"https?://[^\s\"'<>]+", html) if "www.w3.org" not in a}


def test_without_an_address_the_book_leads_nowhere_else_and_says_how_to_run_a_page(project):
    done, pages = build(project, Address())
    assert done.returncode == 0, done.stderr
    for stem, html in pages.items():
        here = f"{HERE}, then jupyter lab notebooks/{stem}.ipynb."
        assert words(html).count(here) == (stem != "errata")
        assert "Checked: notebooks/exercises/pgd.ipynb. Shown: notebooks/dem" in words(html)
        assert not addresses(html) and "og:" not in html and 'rel="canonical"' not in html
        assert not re.search("launch-buttons|source-buttons|fa-rocket|fa-github|edit-button", html)
        files = [t.partition("#")[0] for t in re.findall(r'(?:href|src)="([^"]*)"', html)]
        lost = [
            f for f in files if f and not (project / "_build/html/book" / f.split("?")[0]).exists()
        ]
        assert not lost


def test_with_an_address_every_link_leads_there_at_the_tag_of_the_release(project):
    done, pages = build(project, replace(LAB, tag="v1.2.3"))
    assert done.returncode == 0, done.stderr
    assert not any(HERE in words(html) for html in pages.values())
    colab = "https://colab.research.google.com/github/an-author/the-lab/blob/v1.2.3/notebooks/"
    source = "https://github.com/an-author/the-lab"
    linked = {f"{colab}exercises/pgd.ipynb", f"{colab}demo_attack.ipynb"}
    linked |= {
        f"{source}/blob/v1.2.3/notebooks/{name}.ipynb" for name in ("exercises/pgd", "demo_attack")
    }
    edited = {f"{source}/edit/main/book/pgd.md", source, f"{LAB.site}book/pgd.html"}
    binder = (
        "https://mybinder.org/v2/gh/an-author/the-lab/v1.2.3?urlpath=lab/tree/notebooks/pgd.ipynb"
    )
    found = {a for a in addresses(pages["pgd"]) if "/issues/new?" not in a}
    assert found == linked | edited | {f"{colab}pgd.ipynb", binder}
    assert not any("/notebooks/errata.ipynb" in a for a in addresses(pages["errata"]))


def test_a_notebook_that_nothing_makes_is_an_error(project):
    (project / "book/errata.md").write_text("# Errata\n\n## S\n\n{notebook}`exercises/absent`\n")
    done, _ = build(project, Address())
    assert (
        done.returncode and "no notebook is called 'exercises/absent'" in done.stderr + done.stdout
    )
