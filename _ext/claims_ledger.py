"""The directive `claims`: the ledger of tools/claims.py, one table for each page of the book."""

from collections import Counter
from itertools import groupby

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from adversarial_lab import address
from tools import claims

HEADER = ["Section", "Statement", "Status", "Test, or why there is none"]
WIDTHS = [10, 40, 15, 35]
NAMES = {
    "robust_objectives": "robust objectives",
    "multimarginal": "multimarginal transport",
    "barycenter": "barycenters",
    "meanfield": "mean field",
}


class Claims(SphinxDirective):
    """Nothing to set; the page that has it also has the words around it."""

    def run(self):
        """A section for each page that claims belong to, in the order of the book."""
        pages = groupby(claims.ledger(), key=lambda claim: claim.page)
        return [_section(page, list(rows), self.env.docname) for page, rows in pages]


def _section(page, rows, docname):
    """Heading, a link to the page with what its table counts up to, the table."""
    found = Counter(row.status.partition(",")[0] for row in rows)
    count = ", ".join(f"{found[status]} {status}" for status in sorted(found))
    link = addnodes.pending_xref(
        "", nodes.inline("", page), refdomain="std", reftype="doc", reftarget=f"/book/{page}",
        refdoc=docname, refexplicit=False, refwarn=True,
    )  # fmt: skip
    section = nodes.section(ids=[f"claims-{page.replace('_', '-')}"])
    counted = nodes.paragraph("", "", link, nodes.Text(f": {count}."))
    section += [nodes.title("", _heading(page)), counted, _table(rows)]
    return section


def _heading(page):
    sections = claims.PAGES[page].split()
    if sections == [claims.LECTURE]:
        return f"Lecture: {NAMES[page]}"
    part = sections[0].count(".") == 2  # the page has only a part of 17.6
    return f"Sections {sections[0]} to {sections[-1]}" if part else f"Section {sections[0]}"


def _table(rows):
    # a caption would take one of the chapter's table numbers, so the heading names the table
    group = nodes.tgroup("", *[nodes.colspec(colwidth=w) for w in WIDTHS], cols=len(WIDTHS))
    group += nodes.thead("", _row([nodes.Text(word) for word in HEADER]))
    group += nodes.tbody("", *[_row(_cells(claim)) for claim in rows])
    return nodes.table("", group, classes=["claims", "colwidths-given"])


def _cells(claim):
    """Text as it stands in the marker: nothing in it is markup."""
    test = _test(claim) if claim.test else nodes.Text(claim.why)
    section = claim.section.capitalize()
    return [nodes.Text(section), nodes.Text(claim.statement), nodes.Text(claim.status), test]


def _row(cells):
    return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells])


def _test(claim):
    """Its name and a link to the file, not to the line: lines move, and the site would be stale."""
    name, place = nodes.literal("", claim.test), address.read()
    return nodes.reference("", "", name, refuri=place.blob(claim.file)) if place else name
