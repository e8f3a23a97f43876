"""What a notebook carries of the address: its set-up cell, a button, its links.

A notebook is made without an address, and then leads to the files of the repository it lies in.
`addressed` and `unaddressed` change nothing but those three, so that an address can be set, and
unset, where nothing is installed and no book was built.
"""

import json
import re
from pathlib import Path
from typing import Any

from adversarial_lab.address import Address

BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({})"
BUTTON = "colab"  # the id of its cell
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # in Colab, in JupyterLab
CALL = r'(?m)^set_up\(".*"\)$'
ANCHOR = r"(#[^)\s]*)?\)"
SET_UP = '# @title Set up {{ display-mode: "form" }}\n# Generated from {}\n{}\n\n\nset_up("")'

Notebook = dict[str, Any]
Rules = dict[str, list[tuple[str, str]]]


def set_up_cell(source: str) -> str:
    """The code of a notebook's first cell. source: of what it was made, and what to edit."""
    code = Path(__file__).with_name("set_up.py").read_text(encoding="utf-8")
    return SET_UP.format(source, code.split('"""', 2)[2].strip())  # without the module's docstring


def page_link(stem: str, anchor: str = "", up: str = "../") -> str:
    """From a notebook to a page of the book, as long as that is on no site: to its source."""
    return f"{up}book/{stem}.{'bib' if stem == 'references' else 'md'}{anchor}"


def addressed(notebook: Notebook, name: str, address: Address) -> Notebook:
    """notebooks/<name>.ipynb, made without an address, as it is with this one."""
    if not address:
        return notebook
    links = [
        (r"\]\((?:\.\./)+book/(\w+)\.(?:md|bib)" + ANCHOR, rf"]({address.site}book/\1.html\2)"),
        (r"\]\((?:\.\./)?(\w+(?:/\w+)?)\.ipynb\)", "](" + address.colab(r"\1") + ")"),
    ]
    cells = _changed(notebook["cells"], {"markdown": links, "code": _call(address)})
    badge = [BADGE.format(address.colab(name))]
    button = {"cell_type": "markdown", "id": BUTTON, "metadata": {}, "source": badge}
    return {**notebook, "cells": [button, *cells]}


def unaddressed(notebook: Notebook, name: str, address: Address) -> Notebook:
    """notebooks/<name>.ipynb, as it is with this address, without one: undoes `addressed`."""
    if not address:
        return notebook
    up, page = "../" * (name.count("/") + 1), rf"\]\({re.escape(address.site)}book/"
    before, after = map(re.escape, address.colab("|").split("|"))
    links = [
        (rf"{page}references\.html{ANCHOR}", "](" + page_link("references", r"\1", up) + ")"),
        (rf"{page}(\w+)\.html{ANCHOR}", "](" + page_link(r"\1", r"\2", up) + ")"),
        (rf"\]\({before}(\w+(?:/\w+)?){after}\)", rf"]({up[3:]}\1.ipynb)"),
    ]
    kept = [cell for cell in notebook["cells"] if cell["id"] != BUTTON]
    return {**notebook, "cells": _changed(kept, {"markdown": links, "code": _call(Address())})}


def text(notebook: Notebook) -> str:
    """The notebook as a file, always the same for the same content."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _call(address):
    return [(CALL, f'set_up("{address.requirement}")')]


def _changed(cells, rules: Rules):
    return [_cell(cell, rules.get(cell["cell_type"], [])) for cell in cells]


def _cell(cell, rules):
    source = "".join(cell["source"])
    for pattern, replacement in rules:
        source = re.sub(pattern, replacement, source)
    return {**cell, "source": source.splitlines(keepends=True)}
