"""One address: set, unset and moved without a trace, and no second one anywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adversarial_lab import address
from adversarial_lab.address import Address, notebooks
from tools import address as command
from tools.book import ROOT
from tools.export_notebooks import GPU, LOOKS_FOR_GPU

LAB = Address("someone/adversarial-lab", site="https://someone.github.io/adversarial-lab/")
RELEASED = replace(LAB, tag="v0.2.0")
ELSEWHERE = Address("An-Other/x.y_z", "dev", site="https://lab.example.org/book/")
BUILT = {"_build", ".venv", "dist"}  # and all that begins with a dot, but for two
HOSTS = r"github\.com|github\.io|mybinder\.org|colab\.research\.google\.com|githubusercontent\.com"
NAMED = re.compile(rf"(?:{HOSTS})[/:]([\w.-]+/[\w.-]+)")
OTHERS = {"v2/gh", "zalandoresearch/fashion-mnist", "assets/colab-badge.svg", "owner/name"}


@pytest.fixture
def project(tmp_path):
    """A copy of all that carries the address, which is unset."""
    for name in [*command.CARRIERS, command.SETTING]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    command.changed(tmp_path, Address())
    return tmp_path


def content(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def sources():
    """The files of the project, as people wrote them; tests invent addresses of their own."""
    for folder, folders, names in os.walk(ROOT):
        kept = [f for f in folders if f in (".github", ".ci") or f[0] != "." and f not in BUILT]
        folders[:] = [f for f in kept if f not in ("_vendor", "results", "tests", "__pycache__")]
        yield from (Path(folder, name).relative_to(ROOT) for name in names)


@pytest.mark.parametrize("new", [LAB, RELEASED, ELSEWHERE], ids=["lab", "released", "elsewhere"])
def test_an_address_is_set_everywhere_and_unset_without_a_trace(project, new):
    before = content(project)
    changed = command.changed(project, new)
    assert address.read(project / command.SETTING) == new
    carrying = {p for p, text in content(project).items() if new.repository in text.decode()}
    assert carrying == set(changed) == set(before)
    command.check(project, new.repository)
    assert command.changed(project, new) == []
    assert set(command.changed(project, Address())) == set(before)
    assert content(project) == before


def test_an_address_is_moved_as_if_it_had_been_set_at_first(project):
    command.changed(project, LAB)
    command.changed(project, ELSEWHERE)
    moved = content(project)
    command.changed(project, Address())
    command.changed(project, ELSEWHERE)
    assert content(project) == moved
    assert not any(b"someone" in text for text in moved.values())


def test_the_committed_files_carry_the_address_that_is_set():
    command.check(ROOT)


def test_no_second_address_stands_anywhere():
    """What the sources say of a repository is another project's; the tool writes the rest."""
    here = address.read(ROOT / command.SETTING)
    bare = command.carried(ROOT, here, Address())
    for path in sources():
        text = bare.get(path) or (ROOT / path).read_text(encoding="utf-8", errors="replace")
        assert set(NAMED.findall(text)) <= OTHERS, path
        assert not here or here.repository not in text, path


@pytest.mark.parametrize("path", ["README.md", "notebooks/pgd.ipynb", "CITATION.cff"])
def test_a_file_that_was_left_behind_is_found(project, path):
    left = (project / path).read_bytes()
    command.changed(project, LAB)
    (project / path).write_bytes(left)
    with pytest.raises(ValueError, match=f"another address stands in {path}$"):
        command.check(project)


def test_a_lost_region_is_an_error(project):
    (project / "README.md").write_text("# Nothing\n")
    with pytest.raises(ValueError, match="README.md has 0 regions"):
        command.changed(project, LAB)


def test_publishing_from_another_repository_is_refused(project):
    with pytest.raises(ValueError, match="not set, this repository me/fork: run make address REPO"):
        command.check(project, "me/fork")
    command.changed(project, LAB)
    command.check(project, "Someone/Adversarial-Lab")  # as GitHub does, whatever the case
    with pytest.raises(ValueError, match="is someone/adversarial-lab, this repository me/fork"):
        command.check(project, "me/fork")
    with pytest.raises(ValueError, match="v0.2.0 was not made by make release VERSION=0.2.0"):
        command.check(project, "someone/adversarial-lab@v0.2.0")
    command.changed(project, RELEASED)
    command.check(project, "someone/adversarial-lab@v0.2.0")


@pytest.mark.parametrize(
    ("repo", "repository", "site"),
    [
        ("a/b", "a/b", "https://a.github.io/b/"),
        ("A-1/b.c_d-e", "A-1/b.c_d-e", "https://a-1.github.io/b.c_d-e/"),
        ("Me/me.github.io", "Me/me.github.io", "https://me.github.io/"),
        ("https://github.com/a/b", "a/b", "https://a.github.io/b/"),
        ("https://github.com/a/b.git", "a/b", "https://a.github.io/b/"),
        ("http://www.github.com/a/b/", "a/b", "https://a.github.io/b/"),
        ("git@github.com:a/b.git", "a/b", "https://a.github.io/b/"),
    ],
)
def test_a_repository_is_named_as_github_names_it(repo, repository, site):
    assert command.wanted(repo) == Address(repository, "main", "", site)


@pytest.mark.parametrize(
    "repo",
    ["foo", "a/b/c", "a b/c", " a/b", "a/b\n", "a/", "/b", "a/..", "-a/b", "a-/b", "a--b/c", "ä/b"]
    + ["a/b?x=1", "https://gitlab.com/a/b", "https://github.com/a", "https://github.com/a/b/tree/m"]
    + ["a/b'", 'a/b"', "a/$(b)", "a/b;c", "a" * 40 + "/b", "a/" + "b" * 101],
)
def test_anything_else_is_refused_in_words(repo):
    with pytest.raises(ValueError, match="^REPO=.* must be owner/name .*make address REPO=owner/n"):
        command.wanted(repo)


@pytest.mark.parametrize(
    "branch", ["feature/x", "a b", "-x", "a..b", "x.lock", ".x", "x.", "a#b", "a~"]
)
def test_a_branch_that_a_link_cannot_carry_is_refused(branch):
    with pytest.raises(ValueError, match="^branch .* must be a branch, without slashes"):
        command.wanted("a/b", branch)


@pytest.mark.parametrize(
    "site", ["foo", "ftp://a.b", "https://", "https://a.b/?c", "https://a b/", '"']
)
def test_a_site_that_is_none_is_refused(site):
    with pytest.raises(ValueError, match="^site .* must be https://"):
        command.wanted("a/b", site=site)


def test_a_branch_or_a_site_alone_is_refused():
    for given in ({"branch": "dev"}, {"site": "https://a.b"}):
        with pytest.raises(ValueError, match="belong to a REPO"):
            command.wanted("", **given)
    assert command.wanted("") == Address()
    assert command.wanted("a/b", "dev", "https://c.d/e") == Address(
        "a/b", "dev", "", "https://c.d/e/"
    )


def test_a_file_edited_to_nonsense_is_refused(tmp_path):
    for text in (
        'repository = "a/b"',
        'site = "https://a.b/"',
        'repository = "a"\nsite = "https://b/"',
    ):
        (tmp_path / "address.toml").write_text(text + "\n")
        with pytest.raises(ValueError, match="repository 'a|repository ''"):
            address.read(tmp_path / "address.toml")


def test_links_lead_to_the_tag_in_a_release_and_to_the_branch_between():
    colab = "https://colab.research.google.com/github/someone/adversarial-lab/blob/{}/notebooks/pgd.ipynb"
    for here, ref in [(LAB, "main"), (RELEASED, "v0.2.0")]:
        assert here.colab("pgd") == colab.format(ref)
        assert here.requirement == f"git+https://github.com/someone/adversarial-lab@{ref}"
        assert here.blob("a.py") == f"https://github.com/someone/adversarial-lab/blob/{ref}/a.py"
        assert here.binder("pgd").startswith(f"https://mybinder.org/v2/gh/{LAB.repository}/{ref}?")
    assert not Address() and Address().requirement == ""


def test_the_advice_to_install_works_from_the_address_and_from_a_copy(monkeypatch):
    monkeypatch.setattr(address, "read", Address)
    assert address.advice("gpu") == "pip install '.[gpu]' in a copy of the project"
    monkeypatch.setattr(address, "read", lambda: LAB)
    named = f"{address.DISTRIBUTION} @ {LAB.requirement}"  # from there, not from an index of names
    assert address.advice() == f"pip install '{named}'"
    assert "companion[gpu] @ git+https" in address.advice("gpu")


def made(*texts, up="../"):
    cells = [{"cell_type": "code", "id": "x-0", "metadata": {}, "source": ['set_up("")\n', "1"]}]
    prose = [t.format(up=up) for t in texts]
    cells += [{"cell_type": "markdown", "id": "x-1", "metadata": {}, "source": [t]} for t in prose]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize(
    ("bare", "linked"),
    [
        ("[a]({up}book/pgd.md)", "[a](https://someone.github.io/adversarial-lab/book/pgd.html)"),
        ("[a]({up}book/a_b.md#c-d.1)", "[a]({0.site}book/a_b.html#c-d.1)"),
        ("[(A, 1)]({up}book/references.bib)", "[(A, 1)]({0.site}book/references.html)"),
        ("$f[a](b)$ [a](https://b.c/book/d.html)", "$f[a](b)$ [a](https://b.c/book/d.html)"),
    ],
)
@pytest.mark.parametrize("name", ["pgd", "exercises/pgd"])
def test_a_link_of_a_notebook_leads_to_the_site_or_to_the_source(name, bare, linked):
    notebook = made(bare, up="../" * (1 + name.count("/")))
    button, setup, text = notebooks.addressed(notebook, name, LAB)["cells"]
    assert LAB.colab(name) in button["source"][0]
    assert setup["source"] == [f'set_up("{LAB.requirement}")\n', "1"]
    assert text["source"] == [linked.format(LAB)]
    assert notebooks.unaddressed(notebooks.addressed(notebook, name, LAB), name, LAB) == notebook


@pytest.mark.parametrize("linked", ["exercises/pgd", "demo_attack"])
def test_a_link_to_another_notebook_opens_it(linked):
    notebook = made(f"[a]({linked}.ipynb)")
    set_to = notebooks.addressed(notebook, "trades", RELEASED)
    assert set_to["cells"][2]["source"] == [f"[a]({RELEASED.colab(linked)})"]
    assert notebooks.unaddressed(set_to, "trades", RELEASED) == notebook


def test_links_of_the_committed_notebooks_lead_somewhere():
    """Without an address: to files of the project, which a copy of it has."""
    here = address.read()
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        name = path.relative_to(ROOT / "notebooks").with_suffix("").as_posix()
        bare = notebooks.unaddressed(json.loads(path.read_text("utf-8")), name, here)
        prose = "".join("".join(c["source"]) for c in bare["cells"] if c["cell_type"] == "markdown")
        targets = re.findall(r"\]\(([^)#\s]+)[^)]*\.?\)", prose)
        missing = [
            t for t in targets if "/" in t and "://" not in t and not (path.parent / t).exists()
        ]
        assert not missing, path


def test_a_notebook_asks_for_a_gpu_only_where_it_uses_one():
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        found = json.loads(path.read_text(encoding="utf-8"))
        code = "".join("".join(c["source"]) for c in found["cells"] if c["cell_type"] == "code")
        wanted = GPU if LOOKS_FOR_GPU.search(code) else {}
        assert {
            key: found["metadata"].get(key) for key in GPU if key in found["metadata"]
        } == wanted
        assert bool(wanted) == path.stem.startswith("demo_"), path


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_address_needs_nothing_but_python(project):
    for name in (
        "tools/address.py",
        "tools/__init__.py",
        "adversarial_lab/__init__.py",
        "Makefile",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    for path in (ROOT / "adversarial_lab/address").glob("*.py"):
        shutil.copy(path, project / "adversarial_lab/address")
    before, bare = content(project), f"'{sys.executable}' -S"  # without any installed package

    def make(*arguments, **environment):
        options = {"cwd": project, "capture_output": True, "text": True, "check": False}
        # as from a shell, although these tests are started by make themselves
        shell = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(
            ["make", "address", f"PYTHON={bare}", *arguments], env=shell | environment, **options
        )

    refused = make("REPO=it's/not; one")
    assert refused.returncode and 'REPO="it\'s/not; one" must be owner/name' in refused.stderr
    asked = make(REPO="from/environment", SITE="https://a.b")
    assert asked.stdout.startswith("No address is set") and asked.returncode == 0
    assert make("REPO=Me/lab", "SITE=https://me.org/x").returncode == 0
    assert address.read(project / command.SETTING) == command.wanted(
        "Me/lab", site="https://me.org/x"
    )
    assert make("REPO=").returncode == 0
    after = {p: t for p, t in content(project).items() if "__pycache__" not in p.parts}
    assert after == before
