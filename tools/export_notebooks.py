"""Turn the executed pages and the demos into notebooks/*.ipynb for Colab and Binder."""

from pathlib import Path

import nbformat

from tools.book import ROOT, code_pages, config, read_page
from tools.plain_markdown import Markdown

NOTEBOOKS = ROOT / "notebooks"
DEMOS = ROOT / "demos"
GPU = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
}  # what Colab is asked for
SETUP = """\
# @title Set up {{ display-mode: "form" }}
# Generated from {source}: edit that page, not this notebook.
import importlib.util

if importlib.util.find_spec("adversarial_lab") is None:
    %pip install -q "git+{url}@{branch}"
"""
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
    text = page.read_text(encoding="utf-8")
    demo = page.parent == DEMOS
    markdown = Markdown(page.stem, numbered=not demo)
    source = page.relative_to(ROOT).as_posix()
    setup = SETUP.format(source=source, **config()["repository"])
    cells = [nbformat.v4.new_code_cell(setup.rstrip(), metadata={"cellView": "form"})]
    for cell in read_page(text).cells:
        cells += _code(cell, markdown) if cell.cell_type == "code" else _text(cell, markdown)
    for number, cell in enumerate(cells):
        cell["id"] = f"{page.stem}-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, **(GPU if demo else {})}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat_minor = 5
    return nbformat.writes(notebook) + "\n"


def _code(cell, markdown):
    folded = HIDDEN & set(cell.metadata.get("tags", []))
    metadata = {"cellView": "form"} if folded else {}
    yield nbformat.v4.new_code_cell(FOLD * bool(folded) + cell.source, metadata=metadata)
    if figure := cell.metadata.get("mystnb", {}).get("figure"):
        yield nbformat.v4.new_markdown_cell(markdown.caption(figure["name"], figure["caption"]))


def _text(cell, markdown):
    yield nbformat.v4.new_markdown_cell(markdown.page(cell.source))
