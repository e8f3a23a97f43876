"""Grades as tables and pages. Every text a student can influence is made harmless first."""

import csv
import hashlib
import html
import io
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from adversarial_lab.exercises.classroom import Entry
from adversarial_lab.exercises.files import File
from adversarial_lab.exercises.sets import ExerciseSet

COLUMNS = (
    "student", "question", "test", "points", "out_of", "status", "diagnosis", "note"
)  # fmt: skip
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#222;background:#fff}table{border-collapse:collapse;width:100%}td,th{border-bottom:"
    "1px solid #ddd;padding:.35rem .6rem;text-align:left;vertical-align:top}pre{background:#f5f5f5;"
    "padding:.6rem;overflow:auto;white-space:pre-wrap}.bar{background:#4477aa;height:.8rem}"
    ".passed{color:#075c2b}.hint{color:#444}h2{margin-top:2rem}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # should escaping ever fail


def cell(value: object) -> str:
    """A value that no spreadsheet takes for a formula, on one line."""
    text = CONTROL.sub(" ", "" if value is None else str(value))
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """CSV with the same line ends on every system."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell(value) for value in row] for row in rows)
    return out.getvalue()


def grades(entries: list[Entry]) -> str:
    """One line for each test of each student."""
    rows = []
    for entry in entries:
        stem, note = entry.submission.stem, entry.graded.note
        for row in entry.graded.rows:
            prefix = f"{stem}." if row.test else ""
            rows.append(
                (entry.submission.student, prefix + row.question, prefix + row.test, row.points,
                 row.out_of, row.status, row.diagnosis, note or "")
            )  # fmt: skip
    return table(COLUMNS, rows)


def total(entry: Entry) -> int | None:
    """Points of a notebook; None if any of it is not graded."""
    points = [row.points for row in entry.graded.rows]
    return None if None in points else sum(p for p in points if p is not None)


def canvas(entries: list[Entry], exercises: ExerciseSet) -> str:
    """The columns that Canvas's gradebook imports; a student is found by `ID`."""
    best = sum(case.points for case in exercises.cases)
    rows: list[tuple] = [("    Points Possible", "", "", "", "", best)]
    rows += [(e.submission.name, e.submission.student, "", "", "", total(e)) for e in entries]
    header = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", exercises.title)
    return table(header, rows)


def moodle(entries: list[Entry], exercises: ExerciseSet) -> str:
    """The columns of Moodle's grading worksheet, with the mistakes as comments."""
    best = sum(case.points for case in exercises.cases)
    rows = []
    for e in entries:
        said = " ".join(dict.fromkeys(row.diagnosis for row in e.graded.rows if row.diagnosis))
        who = f"Participant {e.submission.student}"
        rows.append((who, e.submission.name, total(e), best, "", said))
    header = ("Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)")
    return table((*header, "Feedback comments"), rows)


PLATFORMS: dict[str, Callable[[list[Entry], ExerciseSet], str]] = {
    "canvas": canvas,
    "moodle": moodle,
}


TABLES_OF_SETS = tuple(f"-{platform}.csv" for platform in PLATFORMS)


def file_name(student: str) -> str:
    """A name for a student's page that is no path and no other student's."""
    plain = re.sub(r"[^A-Za-z0-9-]", "_", student)[:40]
    return f"{plain}-{hashlib.sha256(student.encode(errors='replace')).hexdigest()[:8]}.html"


def page(title: str, body: str) -> str:
    """A small page that loads and runs nothing."""
    safe = escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{safe}</title><style>{STYLE}</style><h1>{safe}</h1>{body}</html>\n"
    )


def escape(value: object) -> str:
    """Text for HTML: no markup, no control characters but line ends."""
    lines = str(value).split("\n")
    return "\n".join(html.escape(CONTROL.sub("\ufffd", line)) for line in lines)


def grid(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of HTML; the cells are HTML already."""
    head = "".join(f'<th scope="col">{name}</th>' for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def feedback(student: str, entries: list[Entry], sets: dict[str, ExerciseSet]) -> str:
    """What one student gets back."""
    parts = []
    for entry in entries:
        stem, rows = entry.submission.stem, entry.graded.rows
        title = sets[stem].title if stem else "Not recognised"
        got, best = total(entry), sum(row.out_of for row in rows)
        parts.append(f"<h2>{escape(title)}: {'not graded' if got is None else got} of {best}</h2>")
        parts.append(f"<p>{escape(entry.graded.note)}</p>" if entry.graded.note else "")
        parts.append(grid(("Test", "Result", "Points", "What to look at"), map(_line, rows)))
        parts.append(_ran(entry))
    return page(f"Feedback for {student}", "".join(parts))


def _line(row) -> tuple[str, str, str, str]:
    name = row.test + ("" if row.public else " (hidden)")
    texts = [row.message, row.diagnosis or (row.hint and f"Hint: {row.hint}")]
    said = "".join(f"<div>{escape(text)}</div>" for text in texts if text)
    points = "" if row.points is None else f"{row.points} of {row.out_of}"
    kind = "passed" if row.status == "passed" else "other"
    return escape(name), f'<span class="{kind}">{escape(row.status)}</span>', points, said


def _ran(entry: Entry) -> str:
    parts = []
    if entry.graded.cells:
        rows = [(str(c["cell"]), escape(c["line"]), escape(c["error"])) for c in entry.graded.cells]
        parts.append("<h3>Cells with errors</h3>" + grid(("Code cell", "Line", "Error"), rows))
    if entry.graded.printed.strip():
        parts.append(f"<h3>Printed</h3><pre>{escape(entry.graded.printed[:1500])}</pre>")
    return "".join(parts)


def overview(entries: list[Entry], sets: dict[str, ExerciseSet]) -> str:
    """The class at a glance: how each question went, common mistakes, who needs a look."""
    parts = [f"<p>{len(entries)} notebooks.</p>"]
    for stem, exercises in sets.items():
        own = [entry for entry in entries if entry.submission.stem == stem]
        if own:
            parts.append(f"<h2>{escape(exercises.title)}</h2>{_questions(own, exercises)}")
            parts.append(f"<h3>Most common named mistakes</h3>{_mistakes(own)}")
    unusual = [
        (e, sorted({r.status for r in e.graded.rows} - {"passed", "failed"})) for e in entries
    ]
    rows = [
        (escape(e.submission.student), escape(", ".join(states)), escape(e.graded.note))
        for e, states in unusual
        if e.graded.note or set(states) - {"not written", "error", "missing"}
    ]
    parts.append("<h2>To look at</h2>" + grid(("Student", "States", "Note"), rows))
    return page("The class", "".join(parts))


def _questions(entries: list[Entry], exercises: ExerciseSet) -> str:
    rows = []
    for question in exercises.questions:
        best, got = exercises.points(question), []
        for entry in entries:
            own = [row.points for row in entry.graded.rows if row.question == question]
            if None not in own:
                got.append(sum(p for p in own if p is not None))
        counts = Counter(got)
        bars = "".join(
            f"<div>{p}: {counts[p]}<div class=bar style='width:{100 * counts[p] // len(got)}%'>"
            "</div></div>"
            for p in range(best + 1)
            if counts[p]
        )
        mean = f"{statistics.mean(got):.1f} of {best}" if got else ""
        rows.append((escape(question), str(len(got)), mean, bars))
    return grid(("Question", "Graded", "Mean", "Points: how many"), rows)


def _mistakes(entries: list[Entry]) -> str:
    counts: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        counts.update({(r.question, r.diagnosis) for r in entry.graded.rows if r.diagnosis})
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:20]
    rows = [(str(count), escape(q), escape(said)) for (q, said), count in ranked]
    return grid(("Students", "Question", "Mistake"), rows)


def write(
    entries: list[Entry],
    sets: dict[str, ExerciseSet],
    out: Path,
    skipped: Iterable[tuple[File, str]] = (),
) -> None:
    """grades.csv, skipped.csv, a table for each platform and set, a page for each student, all.

    Tables and pages of an earlier class in the same folder are removed.
    """
    (out / "feedback").mkdir(parents=True, exist_ok=True)
    _clear(out)
    _write(out / "skipped.csv", table(("file", "why"), ((f.place, why) for f, why in skipped)))
    _write(out / "grades.csv", grades(entries))
    _write(out / "index.html", overview(entries, sets))
    for stem, exercises in sets.items():
        own = [entry for entry in entries if entry.submission.stem == stem]
        for platform, text in PLATFORMS.items():
            if own:
                _write(out / f"{stem}-{platform}.csv", text(own, exercises))
    for student in dict.fromkeys(entry.submission.student for entry in entries):
        own = [entry for entry in entries if entry.submission.student == student]
        _write(out / "feedback" / file_name(student), feedback(student, own, sets))


def _clear(out: Path) -> None:
    """Remove what an earlier class left, and nothing that is not ours."""
    for ending in TABLES_OF_SETS:
        for old in out.glob(f"*{ending}"):
            old.unlink()
    for old in (out / "feedback").glob("*-????????.html"):
        old.unlink()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
