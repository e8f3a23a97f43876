"""Grades a folder of submissions: side by side, interruptible, the same at any number of jobs."""

import hashlib
import json
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from adversarial_lab.exercises.conversation import Box, Limits, evaluate_in
from adversarial_lab.exercises.grading import NOT_GRADED, Graded, Row, grade, refused
from adversarial_lab.exercises.reference import Reference, prepare
from adversarial_lab.exercises.sets import ExerciseSet
from adversarial_lab.exercises.submissions import Submission, Unreadable, content, find, read

CODE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A submission and its grade."""

    submission: Submission
    graded: Graded


class Boxes:
    """As many sandboxes as jobs, lent out one at a time."""

    def __init__(self, kind: str, modules: list[str], limits: Limits, jobs: int) -> None:
        self.idle: queue.Queue[Box] = queue.Queue()
        for _ in range(jobs):
            self.idle.put(Box(kind, modules, limits))

    @contextmanager
    def lend(self) -> Iterator[Box]:
        """A box that nobody else has."""
        box = self.idle.get()
        try:
            yield box
        finally:
            self.idle.put(box)

    def close(self) -> None:
        """Close them all; to be called when none is lent."""
        while not self.idle.empty():
            self.idle.get().close()


def grade_class(
    submissions: Path,
    sets: dict[str, ExerciseSet],
    secret: str,
    out: Path,
    *,
    jobs: int = 1,
    sandbox: str = "bubblewrap",
    limits: Limits | None = None,
) -> list[Entry]:
    """One entry for each student and exercise set, in order; finished ones are kept in `out`.

    Calling it again after an interruption grades what is missing. A changed file, seed, exercise or
    grader is graded anew.
    """
    limits = limits or Limits()
    found = find(submissions, sorted(sets))
    store = out / "results"
    store.mkdir(parents=True, exist_ok=True)
    needed = [sets[stem] for stem in sorted({s.stem for s in found if s.stem})]
    modules = sorted({name for exercises in needed for name in exercises.modules})
    boxes = Boxes(sandbox, modules, limits, jobs)
    with ExitStack() as stack:
        stack.callback(boxes.close)
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        keys = {s: _key(s, sets, secret, limits) for s in found}
        stems = {s.stem for s in found if s.stem and not (store / keys[s]).exists()}
        todo = [sets[stem] for stem in sorted(stems)]
        prepared = pool.map(lambda exercises: _prepare(boxes, exercises, secret), todo)
        references = dict(zip((e.stem for e in todo), prepared, strict=True))

        def one(submission: Submission) -> Entry:
            path = store / keys[submission]
            return Entry(submission, _stored(path, boxes, sets, references, submission))

        return list(tqdm(pool.map(one, found), total=len(found), unit=" notebooks"))


def _prepare(boxes: Boxes, exercises: ExerciseSet, secret: str) -> Reference:
    with boxes.lend() as box, box.student() as talk:
        return prepare(exercises, secret, evaluate_in(talk))


def _key(submission: Submission, sets: dict[str, ExerciseSet], secret: str, limits: Limits) -> str:
    """Name of the file of a result: it changes with everything the result depends on."""
    digest = hashlib.sha256(f"{secret}|{limits}|{submission.student}|{submission.stem}".encode())
    if submission.stem:
        digest.update(sets[submission.stem].digest.encode())
    for path in sorted(CODE.rglob("*.py")):
        digest.update(path.read_bytes())
    try:
        digest.update(content(submission.path))
    except Unreadable as error:
        digest.update(str(error).encode())
    return digest.hexdigest()[:32] + ".json"


def _stored(
    path: Path,
    boxes: Boxes,
    sets: dict[str, ExerciseSet],
    references: dict[str, Reference],
    submission: Submission,
) -> Graded:
    if path.exists():
        return _read_result(path)
    graded = _grade(boxes, sets, references, submission)
    if not any(row.status == NOT_GRADED for row in graded.rows):
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(graded)), encoding="utf-8")
        partial.replace(path)  # whole or not at all
    return graded


def _read_result(path: Path) -> Graded:
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    stored["rows"] = [Row(**row) for row in stored["rows"]]
    return Graded(**stored)


def _grade(
    boxes: Boxes,
    sets: dict[str, ExerciseSet],
    references: dict[str, Reference],
    submission: Submission,
) -> Graded:
    if submission.stem is None:
        reason = "cannot tell which exercises this is: neither its metadata nor its name says"
        return Graded([Row("", "", 0, 0, "unreadable", True, reason)], note=reason)
    exercises = sets[submission.stem]
    try:
        cells = read(submission.path)
    except Unreadable as error:
        return refused(exercises, "unreadable", str(error))
    try:
        with boxes.lend() as box:
            graded = grade(box, exercises, references[submission.stem], cells)
    except Exception as error:  # whatever it is, the class goes on and nobody gets a 0 for it
        return refused(exercises, NOT_GRADED, f"the grader failed: {type(error).__name__}: {error}")
    if submission.others:
        graded.note = f"{submission.others + 1} files, the newest is graded. {graded.note}".strip()
    return graded
