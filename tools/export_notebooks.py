"""Turn the executed pages and the demos into notebooks/*.ipynb for Colab and Binder."""

import json
import re
from pathlib import Path

import nbformat

from adversarial_lab import address
from adversarial_lab.address.notebooks import FOLDED, addressed, set_up_cell, text
from tools.book import ROOT, code_pages, read_page
from tools.plain_markdown import Markdown

NOTEBOOKS = ROOT / "notebooks"
DEMOS = ROOT / "demos"
GPU = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
}  # what Colab is asked for, where a notebook looks for one
LOOKS_FOR_GPU = re.compile(r"best_device\(|\bcuda\b")
MADE_FROM = "{}: edit that page, not this notebook."
HIDDEN = {"hide-cell", "hide-input", "remove-cell", "remove-input"}
FOLD = '# @title Code { display-mode: "form" }\n'


def export_all() -> list[Path]:
    """Write every notebook, drop those without a page; returns the paths that changed."""
    wanted = exported()
    NOTEBOOKS.mkdir(exist_ok=True)
    stale = [path for path in NOTEBOOKS.glob("*.ipynb") if path not in wanted]
    for path in stale:
        path.unlink()
    changed = [p for p, text in wanted.items() if not p.is_file() or p.read_text("utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], encoding="utf-8")
    return changed


def exported() -> dict[Path, str]:
    """What notebooks/ must hold, for the pages as the book was last built."""
    return {NOTEBOOKS / f"{p.stem}.ipynb": export(p) for p in [*code_pages(), *demos()]}


def demos() -> list[Path]:
    """The sources of the classroom notebooks, which are no pages of the book."""
    return sorted(DEMOS.glob("*.md"))


def export(page: Path) -> str:
    """The page or demo as the text of a notebook."""
    demo = page.parent == DEMOS
    markdown = Markdown(page.stem, numbered=not demo)
    setup = set_up_cell(MADE_FROM.format(page.relative_to(ROOT).as_posix()))
    cells = [nbformat.v4.new_code_cell(setup, metadata=FOLDED)]
    for cell in read_page(page.read_text(encoding="utf-8")).cells:
        cells += _code(cell, markdown) if cell.cell_type == "code" else _text(cell, markdown)
    for number, cell in enumerate(cells):
        cell["id"] = f"{page.stem}-{number}"
    made = json.loads(nbformat.writes(_notebook(cells)))
    return text(addressed(made, page.stem, address.read()))


def _notebook(cells):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    gpu = any(c.cell_type == "code" and LOOKS_FOR_GPU.search(c.source) for c in cells)
    metadata = {"kernelspec": kernel, **(GPU if gpu else {})}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat_minor = 5
    return notebook


def _code(cell, markdown):
    folded = HIDDEN & set(cell.metadata.get("tags", []))
    metadata = {"cellView": "form"} if folded else {}
    yield nbformat.v4.new_code_cell(FOLD * bool(folded) + cell.source, metadata=metadata)
    if figure := cell.metadata.get("mystnb", {}).get("figure"):
        yield nbformat.v4.new_markdown_cell(markdown.caption(figure["name"], figure["caption"]))


def _text(cell, markdown):
    yield nbformat.v4.new_markdown_cell(markdown.page(cell.source))
