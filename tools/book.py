"""Where the book lies, how it is configured, which of its pages run."""

from functools import cache
from pathlib import Path

import nbformat
import yaml
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"


@cache
def config() -> dict:
    """The book's configuration."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def pages() -> list[str]:
    """All pages as the table of contents names them, in its order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


def code_pages() -> list[Path]:
    """The pages that the book executes."""
    files = [(ROOT / page).with_suffix(".md") for page in pages()]
    return [f for f in files if is_executed(f.read_text(encoding="utf-8"))]


def is_executed(text: str) -> bool:
    """Whether a page's front matter asks for its cells to be run."""
    return is_myst_markdown_notebook(text)


def read_page(text: str) -> nbformat.NotebookNode:
    """The page as the notebook that the book runs."""
    return read_myst_markdown_notebook(text, add_source_map=True)
