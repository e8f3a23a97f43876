"""The build on a book of two pages: what runs again, and that red stays red."""

import os
import shutil
import subprocess
import sys

import pytest

from tools.book import ROOT

FRONT = "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n"
TOC = "format: jb-book\nroot: book/index\nparts:\n- numbered: 2\n  chapters: [{file: book/pgd}]\n"
CONFIG = ["_config.yml", "_ext", "_theme", "tools"]


def page(module, text=""):
    cell = f"```{{code-cell}}\nfrom adversarial_lab import {module}\n{module}.value\n```"
    return f"{FRONT}# {module}\n\n## Section\n\n{text}\n\n{cell}\n"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    for name in CONFIG:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    for name in ("book", "adversarial_lab", "_vendor"):
        (root / name).mkdir()
    shutil.copytree(ROOT / "adversarial_lab/address", root / "adversarial_lab/address")
    (root / "_toc.yml").write_text(TOC)
    (root / "requirements.txt").touch()
    (root / "book/references.bib").touch()
    for name in ("__init__", "index", "pgd"):
        (root / f"adversarial_lab/{name}.py").write_text("value = 'first'\n")
    for name in ("index", "pgd"):
        (root / f"book/{name}.md").write_text(page(name))
    return root


def build(root):
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "-m", "tools.build_book"]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def ran(done):
    return [line.split("/")[1] for line in done.stdout.splitlines() if line.startswith("running")]


@pytest.mark.slow
def test_the_life_of_a_book(book):
    html = book / "_build/html/book/pgd.html"
    first = build(book)
    assert first.returncode == 0, first.stdout + first.stderr
    assert sorted(ran(first)) == ["index.md", "pgd.md"]
    assert sorted(p.name for p in (book / "notebooks").iterdir()) == ["index.ipynb", "pgd.ipynb"]

    unchanged = build(book)
    assert unchanged.returncode == 0
    assert "Running Jupyter-Book" not in unchanged.stdout

    (book / "adversarial_lab/pgd.py").write_text("value = 'second'\n")
    edited = build(book)
    assert ran(edited) == ["pgd.md"]
    assert "second" in html.read_text()

    (book / "book/pgd.md").write_text(page("pgd", "See {ref}`nowhere`."))
    for broken in (build(book), build(book)):
        assert broken.returncode != 0
        assert not html.exists()

    (book / "book/pgd.md").write_text(page("pgd"))
    (book / "adversarial_lab/pgd.py").write_text("raise ValueError('a failing cell')\n")
    for failing in (build(book), build(book)):
        assert failing.returncode != 0
        assert "book/pgd.md failed" in failing.stderr
        assert not html.exists()
