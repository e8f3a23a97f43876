"""The build on small books: what runs again, that red stays red, that a part is as the whole."""

import base64
import os
import re
import shutil
import subprocess
import sys

import pytest
from jupyter_cache import get_cache

from tools.book import ROOT

FRONT = "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n"
TOC = "format: jb-book\nroot: book/index\nparts:\n- numbered: 2\n  chapters: [{file: book/pgd}]\n"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
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
    assert len(get_cache(book / "_build/.jupyter_cache").list_cache_records()) == 2  # run once
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


@pytest.mark.slow
def test_a_page_that_opens_what_its_key_does_not_know_fails(book):
    (book / "adversarial_lab/pgd.py").write_text("value = 'first'\n")
    (book / "notes.txt").write_text("notes")
    hidden = "exec('from adversarial_' + 'lab import index')"
    (book / "book/pgd.md").write_text(page("pgd").replace("pgd.value", hidden))
    opening = page("index").replace("index.value", "open('../notes.txt').read()")
    (book / "book/index.md").write_text(opening)
    done = build(book)
    assert done.returncode != 0
    assert "book/index.md failed:\nit opened notes.txt" in done.stderr
    assert "book/pgd.md failed:\nit opened adversarial_lab/index.py" in done.stderr
    assert not (book / "_build/html").exists()
    (book / "notes.txt").unlink()


WHOLE = """
(label-{name})=
## Section of {name}

$$
a = b
$$ (eq-{name})

```{{exercise}} Of {name}
:label: ex-{name}
Solve {{eq}}`eq-{other}`, see {{ref}}`label-{other}` and {{cite:t}}`first`.
```

```{{solution}} ex-{name}
See {{ref}}`label-{other}` and {{ref}}`ex-{other}`.
```

```{{prf:theorem}} Of {name}
:label: thm-{name}
As {{prf:ref}}`thm-{other}`.
```
"""
PLAIN = """# Plain

```{figure} pixel.png
:name: fig
A figure.
```

See {numref}`fig`, {ref}`label-pgd` and {prf:ref}`thm-pgd`.

```{bibliography}
```
"""
EQUATIONS = "chapter_equations: {eq-index: 5, eq-pgd: 6, eq-new: 7, "
BIB = "@book{first, author={A. One}, title={T}, publisher={P}, year={2001}}\n"
BIB += BIB.replace("first", "second")


def whole(name, other, more=""):
    return page(name, WHOLE.format(name=name, other=other) + more)


def site(root):
    """The files of a site, less the ids that cells get at random whenever a page is read."""
    html = root / "_build/html"
    files = {p.relative_to(html): p.read_bytes() for p in html.rglob("*") if p.is_file()}
    return {path: re.sub(rb'"id": "[0-9a-f]{8}"', b"", content) for path, content in files.items()}


@pytest.mark.slow
def test_reading_the_changed_pages_alone_gives_the_same_site(book):
    config = (book / "_config.yml").read_text()
    numbered = config.replace("chapter_equations: {", EQUATIONS)
    (book / "_config.yml").write_text(numbered)
    (book / "book/references.bib").write_text(BIB)
    for name in ("index", "pgd"):
        (book / f"adversarial_lab/{name}.py").write_text("value = 'first'\n")
    (book / "book/pixel.png").write_bytes(PIXEL)
    (book / "book/plain.md").write_text(PLAIN)
    (book / "_toc.yml").write_text(TOC.replace("pgd}", "pgd}, {file: book/plain}"))
    (book / "book/index.md").write_text(whole("index", "pgd"))
    (book / "book/pgd.md").write_text(whole("pgd", "index"))
    assert (first := build(book)).returncode == 0, first.stdout + first.stderr
    read = (book / "_build/.doctrees/book/index.doctree").stat().st_mtime_ns

    more = WHOLE.format(name="new", other="pgd")
    changed = f"# Another title\n\n{more}\n\nAnd {{cite:t}}`second`.\n\n"
    (book / "_config.yml").touch()  # a date is no change
    (book / "book/pgd.md").write_text(whole("pgd", "index").replace("# pgd\n", changed, 1))
    assert (part := build(book)).returncode == 0, part.stdout + part.stderr
    assert ran(part) == []
    assert (book / "_build/.doctrees/book/index.doctree").stat().st_mtime_ns == read
    part = site(book)

    shutil.rmtree(book / "_build/.doctrees")
    (book / "_build/finished.json").unlink()
    assert build(book).returncode == 0
    assert "Another title" in (book / "_build/html/book/index.html").read_text()
    assert part == site(book)
