"""What this book needs from Sphinx and `_config.yml` cannot say.

* Sections count 17.1, 17.2, ..., a long one over two pages if need be, and the chapter's equations
  keep the chapter's numbers.
* A page runs again when the library or the recorded results under it change.
* Docstrings may use the pages' own notation.
* Where it is published, or that it is not: published.py.
* The ledger of claims is written from the tests.
* `_build/numbers.json` says what every label came to be called, for tools/export_notebooks.py.
* Screen readers can read what the extensions write; singlehtml and epub build as well.
"""

import json
import re
import sys
from functools import partial
from pathlib import Path

from docutils import nodes
from sphinx.domains.math import MathDomain
from sphinx.errors import ConfigError
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as Collector

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # autodoc documents this checkout, installed or not

import published  # noqa: E402  (which needs the line above, as do the next)
from claims_ledger import Claims  # noqa: E402

from tools import page_key  # noqa: E402


def setup(app):
    """Connect everything; Sphinx calls this once."""
    page_key.prepare_environment()
    app.add_config_value("chapter_number", 0, "env", int)
    app.add_config_value("chapter_equations", {}, "env", dict)
    app.add_config_value("chapter_continued", {}, "env", dict)
    app.add_directive("claims", Claims)
    app.connect("config-inited", number_sections)
    app.connect("builder-inited", number_equations)
    app.connect("builder-inited", repair_other_builders)
    app.connect("source-read", stamp_page)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("html-page-context", repair_markup)
    app.connect("build-finished", write_numbers)
    published.setup(app)
    silence_thebe(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def stamp_page(app, docname, source):
    """See tools/page_key.py."""
    source[0] = page_key.stamped(source[0])


def read_docstring(app, what, name, obj, options, lines):
    """Docstrings write `code`, $formula$ and shapes (n, *d) as the pages do; autodoc reads reST."""

    def translate(match):
        code, formula = match.groups()
        return f"``{code}``" if code else f":math:`{formula}`" if formula else r"\*"

    text = re.sub(r"(?<![`:])`([^`]+)`(?!`)|\$([^$]+)\$|\*(?=\w)", translate, "\n".join(lines))
    lines[:] = text.split("\n")


def number_sections(app, config):
    """Number sections 17.1, 17.2, ...: Sphinx starts at 1 and has no option for it."""
    original = Collector.assign_section_numbers

    def assign(self, env):
        before = {doc: dict(numbers) for doc, numbers in env.toc_secnumbers.items()}
        original(self, env)
        for doc in env.toc_secnumbers:
            start = config.chapter_continued.get(doc)
            _renumber(env, doc, partial(_in_chapter, config.chapter_number, start))
        return [doc for doc, numbers in env.toc_secnumbers.items() if before.get(doc) != numbers]

    if config.chapter_number:
        Collector.assign_section_numbers = assign


def _in_chapter(chapter, start, number):
    """(3, 2) -> (17, 3, 2); on a page that goes on where another stopped, from its `start`."""
    if start is None:
        return (chapter, *number)
    section, first = start
    below = (number[1] + first - 1, *number[2:]) if len(number) > 1 else ()
    return (chapter, section, *below)


def _renumber(env, doc, change):
    numbers = env.toc_secnumbers[doc]
    numbers.update({anchor: change(number) for anchor, number in numbers.items() if number})
    links = env.tocs[doc].findall(nodes.reference)
    for node in (env.titles[doc], *links):
        if node.get("secnumber"):
            node["secnumber"] = list(change(node["secnumber"]))


def number_equations(app):
    """Give the chapter's labelled equations the chapter's numbers."""
    fixed = app.config.chapter_equations
    original = MathDomain.note_equation

    def note(self, docname, labelid, location=None):
        original(self, docname, labelid, location)
        if labelid not in fixed:
            raise ConfigError(
                f"{docname}: equation {labelid!r} has no number among chapter_equations in "
                "_config.yml; give it one, or star its environment if it needs none"
            )
        self.equations[labelid] = (docname, fixed[labelid])

    MathDomain.note_equation = note


def repair_markup(app, pagename, templatename, context, doctree):
    """What screen readers trip over: a retired role in bibliographies, ids given twice."""
    body = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')
    context["body"] = re.sub(' id="(exercise|solution)-content"', "", body)


def write_numbers(app, exception):
    """Write what labels and equations are called to `_build/numbers.json`."""
    if exception or app.builder.name != "html":
        return
    equations = {k: str(n) for k, (_, n) in app.env.domaindata["math"]["objects"].items()}
    numbers = {
        "equations": equations,
        "labels": {**_titles(app.env), **_numbered(app.env)},
        "sections": {doc: _sections(toc) for doc, toc in app.env.tocs.items()},
        "titles": {doc: title.astext() for doc, title in app.env.titles.items()},
    }
    text = json.dumps(numbers, indent=1, sort_keys=True, ensure_ascii=False)
    Path(app.outdir).with_name("numbers.json").write_text(text + "\n", encoding="utf-8")


def _sections(toc):
    """The number of each heading of a page, in their order, or an empty string."""
    return [".".join(map(str, r.get("secnumber") or ())) for r in toc.findall(nodes.reference)]


def _titles(env):
    labels = env.domaindata["std"]["labels"]
    return {
        label: {"text": title, "url": f"{doc}.html#{anchor}"}
        for label, (doc, anchor, title) in labels.items()
        if doc in env.found_docs
    }


def _numbered(env):
    found = {
        (doc, anchor): f"{kind.capitalize()} {'.'.join(map(str, number))}"
        for doc, kinds in env.toc_fignumbers.items()
        for kind, anchors in kinds.items()
        if kind != "displaymath"  # equations have their own table
        for anchor, number in anchors.items()
    }
    places = {anchor: (doc, anchor) for doc, anchor in found}
    places |= {k: v for k, v in env.domaindata["std"]["anonlabels"].items() if v in found}
    return {
        label: {"text": found[place], "url": "{}.html#{}".format(*place)}
        for label, place in places.items()
    }


def silence_thebe(app):
    """Drop sphinx-thebe, unused here: its script throws on every page."""
    for event in ("env-before-read-docs", "doctree-resolved"):
        published.disconnect(app, event, "sphinx_thebe")


def repair_other_builders(app):
    """singlehtml and epub: sphinx-exercise's handlers hide html's, the theme's buttons crash."""
    handlers = app.registry.translation_handlers
    name = app.builder.name
    if name in handlers and app.builder.format == "html":
        handlers[name] = {**handlers["html"], **handlers[name]}
    if name == "epub":
        published.disconnect(app, "html-page-context", "sphinx_book_theme")
