"""The ledger of claims holds every marker, in its place, and promises nothing else."""

import re

import claims_ledger
import pytest

from adversarial_lab.address import Address
from tools import build_book, claims
from tools.book import ROOT, pages

LEDGER = claims.ledger()
OPEN = [claim for claim in LEDGER if claim.status == "open"]
TWO = """
import pytest

@pytest.mark.claim("17.6.2", "second")
@pytest.mark.claim(
    "17.1", "first, "
    "of two lines"
)
@pytest.mark.parametrize("n", [1, 2])
def test_both(n): ...
"""
ONE = "import pytest\n\n@pytest.mark.claim('{}', '{}')\ndef test_{}(): ...\n"
OPEN_ROWS = 'section,statement,why\n17.1,"a, b",no GPU\nlecture meanfield,c,d\n'
ERRATA = """# Errata

**Eq. (1)**
: *Right.* Wrong in print.

  *Shown by* `test_both`, `test_without_a_claim`.

**The flow**
: *Right as printed.*

  *Shown by* `test_flow`.
"""


@pytest.fixture
def root(tmp_path):
    files = {
        "tests/test_pgd.py": TWO,
        "tests/test_meanfield.py": ONE.format("lecture", "the flow", "flow"),
        "tests/test_nets.py": ONE.format("17.1", "nets", "nets"),
        "tests/exercises/test_deep.py": ONE.format("17.1", "not of the book's tests", "deep"),
        "book/errata.md": ERRATA,
        "book/claims_open.csv": OPEN_ROWS,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_ledger_of_a_small_tree(root):
    found = [(c.section, c.statement, c.page, c.test, c.status) for c in claims.ledger(root)]
    assert found == [
        ("17.1", "nets", "pgd", "test_nets", "checked"),
        ("17.1", "first, of two lines", "pgd", "test_both", "corrected, see errata"),
        ("17.1", "a, b", "pgd", "", "open"),
        ("17.6.2", "second", "gaussian_risk", "test_both", "corrected, see errata"),
        ("lecture", "the flow", "meanfield", "test_flow", "checked"),
        ("lecture", "c", "meanfield", "", "open"),
    ]
    nets, both, *_ = claims.ledger(root)
    assert (nets.file, nets.line) == ("tests/test_nets.py", 4)
    assert (both.file, both.line) == ("tests/test_pgd.py", 10)


def test_a_project_without_tests_has_no_claims(tmp_path):
    assert claims.ledger(tmp_path) == [] and claims.content(tmp_path) == ""


@pytest.mark.parametrize(
    ("file", "section"),
    [("pgd", "17.7"), ("pgd", "17.1.9"), ("pgd", "17.6"), ("pgd", ""), ("pgd", "lecture")],
)
def test_an_unknown_section_is_refused_with_the_choices(root, file, section):
    (root / f"tests/test_{file}.py").write_text(ONE.format(section, "s", "t"))
    message = rf"tests/test_{file}.py:4: no page for section '{section}' of 'pgd'; .* 17.1.1, .*"
    with pytest.raises(ValueError, match=message + "lecture.* on the pages robust_objectives, "):
        claims.ledger(root)


def test_markers_and_rows_that_are_none_are_refused(root):
    (root / "tests/test_trades.py").write_text(ONE.replace(", '{}'", "").format("17.3", "t"))
    with pytest.raises(ValueError, match=r"tests/test_trades.py:3: a claim is \(section, state"):
        claims.ledger(root)
    (root / "tests/test_trades.py").unlink()
    for row in ("17.1,a", "17.1,a,b,c", "17.1,a, ", ""):
        (root / "book/claims_open.csv").write_text(f"section,statement,why\n{row}\n")
        with pytest.raises(ValueError, match="claims_open.csv:2: an open claim is section,stat"):
            claims.ledger(root)


def test_every_marker_of_the_tests_is_in_the_ledger():
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "test_claims.py"]
    markers = re.compile(r"^ *@pytest\.mark\.claim\b", re.MULTILINE)
    written = sum(len(markers.findall(path.read_text(encoding="utf-8"))) for path in files)
    assert len(LEDGER) - len(OPEN) == written
    assert written > 180


def test_every_claim_has_a_page_of_the_book_and_a_test_that_is_there():
    assert set(claims.ORDER) <= {page.removeprefix("book/") for page in pages()}
    for claim in LEDGER:
        assert claim.section in (*claims.CHAPTER, claims.LECTURE)
        if claim.test:
            assert f"def {claim.test}(" in (ROOT / claim.file).read_text(encoding="utf-8")
    assert {claim.page for claim in LEDGER} == set(claims.ORDER)


def test_what_is_open_has_a_reason_and_is_nowhere_checked():
    assert all(claim.section and claim.statement and claim.why for claim in OPEN)
    stated = [(claim.page, claim.statement) for claim in LEDGER]
    assert len(stated) == len(set(stated))


def test_corrected_is_what_the_errata_correct():
    status = {claim.test: claim.status for claim in LEDGER}
    assert status["test_the_printed_constant_is_wrong"] == "corrected, see errata"
    assert status["test_the_expansion_of_a_quadratic_is_exact"] == "checked"
    assert status["test_each_part_of_the_flow_moves_the_payoff_its_way"] == "checked"


def test_the_site_is_as_old_as_the_ledger(monkeypatch):
    monkeypatch.setattr(build_book, "_files", lambda names: set())
    before = build_book.fingerprint()
    assert build_book.fingerprint() == before
    monkeypatch.setattr(claims, "content", lambda: "another statement")
    assert build_book.fingerprint() != before


def test_what_the_site_does_not_show_does_not_change_it(root):
    before, path = claims.content(root), root / "tests/test_pgd.py"
    path.write_text("# a line above\n" + path.read_text())
    assert claims.content(root) == before
    path.write_text(path.read_text().replace("second", "another"))
    assert claims.content(root) != before


@pytest.mark.parametrize("here", [Address(), Address("a/b", site="https://c/")], ids=["", "a/b"])
def test_the_page_has_the_directive_and_the_directive_a_table_for_each_page(here, monkeypatch):
    monkeypatch.setattr(claims_ledger.address, "read", lambda: here)
    assert "\n```{claims}\n```\n" in (ROOT / "book/claims.md").read_text(encoding="utf-8")
    for page in claims.ORDER:
        rows = [claim for claim in LEDGER if claim.page == page]
        section = claims_ledger._section(page, rows, "book/claims")
        head, *body = section[2].findall(claims_ledger.nodes.row)
        assert section[0].astext().startswith(("Section", "Lecture"))
        assert [cell.astext() for cell in head] == claims_ledger.HEADER
        assert [row[1].astext() for row in body] == [claim.statement for claim in rows]
        links = [link["refuri"] for link in section[2].findall(claims_ledger.nodes.reference)]
        files = [claim.file for claim in rows if claim.test] if here else []
        assert links == [f"https://github.com/a/b/blob/main/{file}" for file in files]
