"""Student and solution notebooks, written from a master."""

from typing import Any

from adversarial_lab import address
from adversarial_lab.address.notebooks import FOLDED, addressed, page_link, set_up_cell, text
from adversarial_lab.exercises.sets import BEGIN, END, ExerciseSet, blank, first_function

MADE_FROM = "exercises/{}/master.md: write your answers here, but edit the text there."
LAST = """## Where you stand

Every question at once: which answers pass, your points so far, and what is left. Then hand in this
notebook, or let `export` write what you ran into a file of its own."""
ASK = """check_all("{0}")
# export("{0}")  # without the first #: writes {0}_answers.ipynb, to hand in"""
STUDENTS = "from adversarial_lab import check, check_all, export"
DIFFICULTY = {1: "easy", 2: "medium", 3: "hard"}


def student(exercises: ExerciseSet) -> str:
    """The notebook a student fills in: no solution text, a check under each answer."""
    stem = exercises.stem
    first = f"{set_up_cell(MADE_FROM.format(stem))}\n\n{STUDENTS}"
    cells = [{**_code(first), "metadata": FOLDED}]
    for cell in exercises.cells:
        if cell.question is not None:
            cells.append(_markdown(facts(exercises, cell.question)))
            cells.append(_code(blank(cell.source, cell.question), ["answer", cell.question]))
            call = f'check("{stem}.{cell.question}", {first_function(cell.source)})'
            cells.append(_code(call, ["check"]))
        else:
            cells.append(_markdown(cell.source) if cell.kind == "markdown" else _code(cell.source))
    cells += [_markdown(LAST), _code(ASK.format(stem), ["check"])]
    notebook = _notebook(exercises, cells)
    return text(addressed(notebook, f"exercises/{stem}", address.read()))


def solution(exercises: ExerciseSet) -> str:
    """The same with the reference answers; not for the repository's students."""
    cells = []
    for cell in exercises.cells:
        source = "\n".join(
            line for line in cell.source.split("\n") if line.strip() not in (BEGIN, END)
        )
        cells.append(_markdown(source) if cell.kind == "markdown" else _code(source))
    return text(_notebook(exercises, cells))


def facts(exercises: ExerciseSet, question: str) -> str:
    """Points, minutes, difficulty, the section to read, and the ladder of hints, folded."""
    told = exercises.questions[question]
    points = exercises.points(question)
    page = page_link(exercises.stem, up="../../")
    section = told["section"]
    where = f"Section {section}" if section[0].isdigit() else section[0].upper() + section[1:]
    line = (
        f"**{exercises.stem}.{question}** · {points} points · about {told['minutes']} minutes ·"
        f" {DIFFICULTY[told['difficulty']]} · [{where}]({page})"
    )
    hints = [
        f"<details><summary>Hint {k}</summary>\n\n{hint}\n\n</details>"
        for k, hint in enumerate(told["hints"], 1)
    ]
    return "\n\n".join([line, *hints])


def _markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source.splitlines(keepends=True)}


def _code(source: str, tags: list[str] | None = None) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": tags} if tags else {},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def _notebook(exercises: ExerciseSet, cells: list[dict[str, Any]]) -> dict[str, Any]:
    # ids by place: a rebuild without a change is the same file
    numbered = [{"id": f"{exercises.stem}-{k}", **cell} for k, cell in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": numbered,
        "metadata": {"adversarial_lab": {"exercises": exercises.stem}, "kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
