"""What the pages say of the graded exercises is what the exercises and the grader are."""

import re

import pytest

from adversarial_lab.exercises import grading, notebooks
from adversarial_lab.exercises.sets import load_all
from tools.book import ROOT

SETS = load_all(ROOT / "exercises")
GUIDE = (ROOT / "book/instructors.md").read_text(encoding="utf-8")
LISTED = re.compile(r"^- \*.+?\* \((\w+), (\d+) minutes\)", re.MULTILINE)


@pytest.mark.parametrize("stem", SETS)
def test_a_page_lists_its_graded_exercises_and_opens_them(stem):
    page = (ROOT / f"book/{stem}.md").read_text(encoding="utf-8")
    told = SETS[stem].questions.values()
    wanted = [(notebooks.DIFFICULTY[t["difficulty"]], str(t["minutes"])) for t in told]
    assert LISTED.findall(page) == wanted
    assert f"A notebook with a check under each answer: {{notebook}}`exercises/{stem}`." in page
    assert (ROOT / f"notebooks/exercises/{stem}.ipynb").is_file()


@pytest.mark.parametrize("stem", SETS)
def test_the_plan_of_the_course_uses_every_set(stem):
    weeks = [line for line in GUIDE.splitlines() if re.match(r"\| \d", line)]
    assert any(f"]({stem}.md)" in line and f"`{stem}`" in line for line in weeks)


def test_the_guide_explains_every_status():
    table = GUIDE.partition("| status |")[2].partition("\n\n")[0]
    explained = re.split(r",\s*", ", ".join(re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE)))
    other = {"failed", "unreadable", "tampered", grading.NOT_GRADED}
    assert set(explained) == set(grading.STATES.values()) | other
