"""The claims ledger: which statements of the chapter and the lecture a test checks.

A test says what it checks by its marker, `claim(section, statement)`. The markers are read from
the text of the tests, not by importing them, so that the book can be built where they cannot run.
A statement is corrected where the errata name its test, and open where `book/claims_open.csv`
has it: no test checks it.
"""

import ast
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.book import ROOT

LECTURE = "lecture"
PAGES = {  # in the order of the book
    "pgd": "17.1 17.1.1 17.1.2 17.1.3 17.1.4",
    "masking": "17.2 17.2.1 17.2.2 17.2.3",
    "trades": "17.3 17.3.1 17.3.2 17.3.3 17.3.4 17.3.5",
    "certified": "17.4 17.4.1 17.4.2 17.4.3 17.4.4",
    "cka": "17.5 17.5.1",
    "gaussian_risk": "17.6.1 17.6.2 17.6.3",
    "transport": "17.6.4 17.6.5 17.6.6",
    "robust_objectives": LECTURE,
    "multimarginal": LECTURE,
    "barycenter": LECTURE,
    "meanfield": LECTURE,
}
ELSEWHERE = {"nets": "robust_objectives"}  # tests of the lecture in a file without a page
ORDER = list(PAGES)
CHAPTER = [section for page in PAGES.values() for section in page.split() if section != LECTURE]


@dataclass(frozen=True)
class Claim:
    """A statement, the page that deals with it, and the test that checks it or why none does."""

    section: str
    statement: str
    page: str
    test: str = ""
    file: str = ""
    line: int = 0
    corrected: bool = False
    why: str = ""

    @property
    def status(self) -> str:
        """In the words of the page."""
        if not self.test:
            return "open"
        return "corrected, see errata" if self.corrected else "checked"


def ledger(root: Path = ROOT) -> list[Claim]:
    """All claims in the order of the book; those of a section that are open come last."""
    return sorted([*checked(root), *still_open(root)], key=_place)


def checked(root: Path = ROOT) -> Iterator[Claim]:
    """The claims that tests carry, file by file."""
    named = _named_in_errata(root)
    for path in sorted((root / "tests").glob("*.py")):
        file = path.relative_to(root).as_posix()
        for section, statement, test, line in markers(path.read_text(encoding="utf-8"), file):
            page = page_of(section, path.stem.removeprefix("test_"), f"{file}:{line}")
            yield Claim(section, statement, page, test, file, line, corrected=test in named)


@cache  # the browser tests ask before each page whether the site is current
def markers(code: str, file: str) -> list[tuple[str, str, str, int]]:
    """Section, statement, test and its line, for every claim in the text of a test file."""
    tests = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    calls = [(test, call) for test in tests for call in test.decorator_list if _is_claim(call)]
    return [(*_texts(call, file), test.name, test.lineno) for test, call in calls]


def _texts(call: ast.expr, file: str) -> tuple[str, str]:
    match call:
        case ast.Call(args=[ast.Constant(str(section)), ast.Constant(str(said))], keywords=[]):
            return section, said
    raise ValueError(f"{file}:{call.lineno}: a claim is (section, statement)")


def _is_claim(decorator: ast.expr) -> bool:
    return ast.unparse(decorator).startswith("pytest.mark.claim")


def still_open(root: Path = ROOT) -> Iterator[Claim]:
    """The claims that no test checks; a lecture row names its page: `lecture meanfield`."""
    path = root / "book/claims_open.csv"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, row in enumerate(csv.reader(lines[1:]), 2):
        place = f"{path.name}:{number}"
        if len(row) != 3 or not all(field.strip() for field in row):
            raise ValueError(f"{place}: an open claim is section,statement,why; got {row}")
        section, _, page = row[0].partition(" ")
        yield Claim(section, row[1], page_of(section, page, place), why=row[2])


def page_of(section: str, stem: str, place: str) -> str:
    """The page of a section; for the lecture, of the test file's stem."""
    stem = ELSEWHERE.get(stem, stem)
    if section == LECTURE and PAGES.get(stem) == LECTURE:
        return stem
    found = [page for page, sections in PAGES.items() if section in sections.split()]
    if section == LECTURE or not found:
        known = ", ".join(CHAPTER)
        pages = ", ".join(page for page, sections in PAGES.items() if sections == LECTURE)
        raise ValueError(
            f"{place}: no page for section {section!r} of {stem!r}; sections are {known}, and "
            f"{LECTURE!r} on the pages {pages}"
        )
    return found[0]


def content(root: Path = ROOT) -> str:
    """What the page shows of it, as text: the site is as old as this. Lines are not shown."""
    shown = ((c.section, c.statement, c.status, c.test or c.why, c.file) for c in ledger(root))
    return "\n".join(map(repr, shown))


def _named_in_errata(root: Path) -> set[str]:
    """Tests that an entry of the errata names, unless it says "Right as printed"."""
    path = root / "book/errata.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    entries = re.split(r"^(?=\*\*)", text, flags=re.MULTILINE)
    wrong = "".join(entry for entry in entries if "*Right as printed.*" not in entry)
    return set(re.findall(r"`(test_\w+)`", wrong))


def _place(claim: Claim) -> tuple:
    section = CHAPTER.index(claim.section) if claim.section in CHAPTER else -1
    return ORDER.index(claim.page), section, not claim.test, claim.file, claim.line
