"""Grades a folder of submissions: side by side, interruptible, the same at any number of jobs."""

import hashlib
import json
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from adversarial_lab.exercises.conversation import Box, Limits, evaluate_in
from adversarial_lab.exercises.files import LARGEST_OUTPUTS, File, Unreadable, read
from adversarial_lab.exercises.grading import NOT_GRADED, Graded, Row, grade, refused
from adversarial_lab.exercises.reference import Reference, prepare
from adversarial_lab.exercises.sets import ExerciseSet
from adversarial_lab.exercises.submissions import TAKE, Submission, find

CODE = Path(__file__).parent
MOST_POINTS = "it has most points"


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
    take: str = "newest",
) -> list[Entry]:
    """One entry for each student and exercise set, in order; finished ones are kept in `out`.

    take: of several files of a student for a set, the newest that can be read, or the one with
    most points. Calling it again after an interruption grades what is missing. A changed file,
    seed, exercise or grader is graded anew. Raises ValueError on settings or folders that make no
    sense, before anything is graded.
    """
    _check(secret, jobs, take, out)
    limits = limits or Limits()
    found = _variants(find(submissions, sorted(sets)).submissions, take)
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

        return _best(list(tqdm(pool.map(one, found), total=len(found), unit=" notebooks")))


def _check(secret: str, jobs: int, take: str, out: Path) -> None:
    if not secret:
        raise ValueError("--seed must not be empty: the hidden inputs depend on it")
    if jobs < 1:
        raise ValueError(f"--jobs must be >= 1, got {jobs}")
    if take not in TAKE:
        raise ValueError(f"--take must be one of {TAKE}, got {take!r}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, and {str(out)!r} is a file")


def _variants(found: list[Submission], take: str) -> list[Submission]:
    """What is graded: the file of each submission, and to take the best all of its files."""
    if take == "newest":
        return found
    every = []
    for submission in found:
        files = [submission.file, *submission.others] if submission.file else []
        every += [
            replace(submission, file=f, others=tuple(o for o in files if o != f), why=MOST_POINTS)
            for f in files
        ] or [submission]
    return every


def _best(entries: list[Entry]) -> list[Entry]:
    """Of the entries of one student and set the one with most points, the first of equals."""
    chosen: dict[tuple[str, str | None], Entry] = {}
    for entry in entries:
        key = (entry.submission.student, entry.submission.stem)
        if key not in chosen or _points(entry) > _points(chosen[key]):
            chosen[key] = entry
    for entry in chosen.values():
        entry.graded.note = f"{_told(entry)} {entry.graded.note}".strip()
    return list(chosen.values())


def _points(entry: Entry) -> int:
    return sum(row.points or 0 for row in entry.graded.rows)


def _told(entry: Entry) -> str:
    """Which of several files was graded; where that one is blank, how to look at the others."""
    told = entry.submission.told
    if told and all(row.status == "not written" for row in entry.graded.rows):
        told += " It is blank: --take best looks at the others too."
    return told


def _prepare(boxes: Boxes, exercises: ExerciseSet, secret: str) -> Reference:
    with boxes.lend() as box, box.student() as talk:
        return prepare(exercises, secret, evaluate_in(talk))


def _key(submission: Submission, sets: dict[str, ExerciseSet], secret: str, limits: Limits) -> str:
    """Name of the file of a result: it changes with everything the result depends on."""
    about = f"{secret}|{limits}|{submission.student}|{submission.stem}"
    digest = hashlib.sha256(about.encode(errors="backslashreplace"))
    if submission.stem:
        digest.update(sets[submission.stem].digest.encode())
    for path in sorted(CODE.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(_bytes(submission.file))
    return digest.hexdigest()[:32] + ".json"


def _bytes(file: File | None) -> bytes:
    try:
        return file.content(LARGEST_OUTPUTS) if file else b""
    except Unreadable as error:
        return str(error).encode(errors="backslashreplace")


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
    if submission.stem is None or submission.file is None:
        reason = submission.why
        if submission.file is not None:
            reason = "cannot tell which exercises this is: neither its metadata nor its name says"
        return Graded([Row("", "", 0, 0, "unreadable", True, reason)], note=reason)
    exercises = sets[submission.stem]
    try:
        cells = read(submission.file)
    except Unreadable as error:
        return refused(exercises, "unreadable", str(error))
    try:
        with boxes.lend() as box:
            graded = grade(box, exercises, references[submission.stem], cells)
    except Exception as error:  # whatever it is, the class goes on and nobody gets a 0 for it
        return refused(exercises, NOT_GRADED, f"the grader failed: {type(error).__name__}: {error}")
    return graded
