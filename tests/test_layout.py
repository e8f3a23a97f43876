"""Names match: a section's page, module, exercises and test share one stem, and nothing strays."""

import re
import tomllib
from importlib.metadata import distributions

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import adversarial_lab
from adversarial_lab import address
from tools.book import ROOT, is_executed, pages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PAGES = [(ROOT / page).with_suffix(".md") for page in pages()]


def sections():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    taught = [part for part in toc["parts"] if part["caption"] in ("The chapter", "The lecture")]
    return [c["file"].removeprefix("book/") for part in taught for c in part["chapters"]]


def modules():
    entries = (ROOT / "adversarial_lab").iterdir()
    return {p.stem for p in entries if p.suffix == ".py" or (p / "__init__.py").is_file()}


def test_the_table_of_contents_lists_every_page():
    assert sorted(PAGES) == sorted((ROOT / "book").glob("*.md"))


@pytest.mark.parametrize("stem", sections())
def test_a_section_has_its_module_page_and_test(stem):
    assert stem in modules()
    assert (ROOT / f"book/{stem}.md").is_file()
    assert (ROOT / f"tests/test_{stem}.py").is_file()


def test_an_exercise_set_belongs_to_a_section_and_is_whole():
    folders = [path for path in (ROOT / "exercises").iterdir() if path.is_dir()]
    assert {path.name for path in folders} <= set(sections())
    for folder in folders:
        names = {path.name for path in folder.iterdir() if path.is_file()}
        assert names == {"master.md", "tests.py", "mutants.py"}


@pytest.mark.parametrize("stem", sorted(modules() - {"__init__"}))
def test_a_module_has_its_test(stem):
    assert (ROOT / f"tests/test_{stem}.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_its_cells_and_has_a_section(page):
    text = page.read_text(encoding="utf-8")
    assert is_executed(text) == ("{code-cell}" in text), "cells need the front matter, and it them"
    prose = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall("^# ", prose, re.MULTILINE)) == 1
    assert re.search("^## ", prose, re.MULTILINE), "the theme's script fails on a page without one"


def test_the_addresses_and_versions_agree():
    here, urls = address.read(), PROJECT.get("urls", {})
    assert bool(urls) == ("repository-code" in CITATION) == ("url" in CITATION) == bool(here)
    if here:
        assert urls["Source"] == CITATION["repository-code"] == here.source
        assert urls["Homepage"] == CITATION["url"] == here.site
    assert CITATION["version"] == adversarial_lab.__version__


def test_the_library_sets_no_upper_bounds():
    requirements = PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
    bounded = [r for r in requirements if re.search("[<~]|==", r)]
    assert bounded == ["jupyter-book>=1.0.4,<2"]  # Jupyter Book 2 is another program


def test_what_make_installs_is_exact_and_covers_the_library():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    names = {pin.partition("==")[0] for pin in pins}
    assert {re.match(r"[\w-]+", r)[0] for r in PROJECT["dependencies"]} <= names


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_what_make_installs_is_for_every_python_that_we_name(python):
    """Debian 12 has 3.11.2: a pin for 3.11.5 and later cannot be installed there."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    here = [dist for dist in distributions() if pins.get(_normal(dist.name)) == dist.version]
    assert len(here) > 100
    asked = {dist.name: dist.metadata.get("Requires-Python") or "" for dist in here}
    assert {n: spec for n, spec in asked.items() if python not in SpecifierSet(spec)} == {}


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_readme_opens_with_the_two_commands():
    commands = re.findall("^    (make [a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands[:2] == ["make book", "make test"]
