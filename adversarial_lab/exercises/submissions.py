"""Finds a class's notebooks as learning platforms hand them out: no student loses a row.

Of several files of one student for one exercise set one is graded; every file that is not is told.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from adversarial_lab.exercises.files import File, Unreadable, files, notebook_of

MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission")  # a folder for each student
CANVAS = re.compile(r"(?P<name>[^_]+)_(?:late_)?(?P<id>\d+)_\d+_", re.IGNORECASE)  # a file
GRADESCOPE = re.compile(r"submission_(?P<id>\d+)$")
PLATFORMS = (MOODLE, CANVAS, GRADESCOPE)
ABOUT = (".csv", ".json", ".md", ".txt", ".yaml", ".yml", ".xlsx")  # a platform's own files
TAKE = ("newest", "best")


@dataclass(frozen=True)
class Submission:
    """What one student handed in for one exercise set."""

    student: str
    name: str  # as the platform writes it, or empty
    file: File | None  # None: nothing that could be a notebook
    stem: str | None  # of the exercise set; None: cannot be told
    others: tuple[File, ...] = ()  # other files for the same set, the better ones first
    why: str = ""  # this file and not another, or none at all

    @property
    def told(self) -> str:
        """Which of several files is graded, and why; "" of a single one."""
        if not self.others or self.file is None:
            return ""
        names = ", ".join(str(f.place) for f in self.others)
        count, chosen = 1 + len(self.others), self.file.place
        return f"{count} files: {chosen} was graded because {self.why}, and not {names}."


@dataclass(frozen=True)
class Found:
    """The submissions of a class, and why each file that is none was left out."""

    submissions: list[Submission]
    skipped: list[tuple[File, str]]


def find(root: Path, stems: list[str]) -> Found:
    """One submission for each student and exercise set, and what was skipped.

    root: a folder, or a ZIP of one. Raises ValueError if there is no file in it.
    """
    if not root.is_dir() and not (root.is_file() and root.suffix.lower() == ".zip"):
        raise ValueError(f"submissions must be a folder or a .zip, got {str(root)!r}")
    everything = unwrapped(list(files(root)), stems)
    skipped = [(f, why) for f in everything if (why := _of_nobody(f, everything))]
    of_nobody = {file for file, _ in skipped}
    students: dict[tuple[str, str], list[File]] = defaultdict(list)
    for file in everything:
        if file not in of_nobody:
            students[who(file, stems)].append(file)
    if not students:
        raise ValueError(f"submissions must hold files of students, and {str(root)!r} holds none")
    found = []
    for (student, name), own in sorted(students.items()):
        chosen, rest = _of_student(student, name, own, stems)
        found += chosen
        skipped += rest
    return Found(found, skipped)


def unwrapped(found: list[File], stems: list[str]) -> list[File]:
    """The files without folders around the whole class, such as "export/"."""
    while wrapper := _wrapper([f for f in found if not f.hidden], stems):
        found = [_without(wrapper, file) for file in found]
    return found


def _without(wrapper: str, file: File) -> File:
    first, *rest = file.place.parts
    return replace(file, place=PurePosixPath(*rest)) if rest and first == wrapper else file


def _wrapper(found: list[File], stems: list[str]) -> str:
    """The one folder that holds all the class and is no student's; "" if there is none."""
    inside = [f for f in found if len(f.place.parts) > 1]
    tops = {f.place.parts[0] for f in inside}
    loose = [f for f in found if len(f.place.parts) == 1 and (f.is_notebook or f.is_script)]
    if len(tops) != 1 or loose or _platform(next(iter(tops))):
        return ""
    (top,) = tops
    handed = [f for f in inside if len(f.place.parts) == 2 and (f.is_notebook or f.is_script)]
    if handed:  # files side by side: a class only if their names tell students apart
        below = [File(PurePosixPath(f.name), f.path) for f in handed]
        named = [f for f in below if _platform(f.name) or _before_a_stem(f.stem, stems)]
        apart = len(named) == len(below) and len({who(f, stems) for f in named}) > 1
        return top if apart else ""
    folders = {f.place.parts[1] for f in inside if len(f.place.parts) > 2}
    sets = any(stem in folder for stem in stems for folder in folders)
    return top if folders and not sets else ""


def _of_nobody(file: File, everything: list[File]) -> str:
    """Why a file belongs to no student, or ""."""
    first, *below = file.place.parts
    if file.hidden and (not below or first.startswith((".", "__"))):
        return "hidden, left by a system"
    if len(file.place.parts) > 1 or file.is_notebook or file.is_script:
        return ""
    if file.is_folder or file.path.is_symlink():
        return ""
    flat = any(f.is_notebook and len(f.place.parts) == 1 for f in everything)
    in_folders = any(len(f.place.parts) > 1 for f in everything)
    if file.name.lower().endswith(ABOUT) or (in_folders and not flat):
        return "about the class, no student's"
    return ""


def _of_student(
    student: str, name: str, own: list[File], stems: list[str]
) -> tuple[list[Submission], list[tuple[File, str]]]:
    """A submission for each set that a student's files are for, or one that says there is none."""
    skipped = [(f, _no_notebook(f)) for f in own if not (f.is_notebook or f.is_script)]
    by_stem: dict[str | None, list[File]] = defaultdict(list)
    for file in own:
        if file.is_notebook or file.is_script:
            by_stem[which(file, stems)].append(file)
    lost = by_stem.get(None, [])
    if len(by_stem) > 1 and all(f.is_script for f in lost):  # helpers beside notebooks
        skipped += [(f, "a script whose name is no exercise set's") for f in by_stem.pop(None, [])]
    if not by_stem:
        why = "no notebook: " + (", ".join(sorted({f.name for f in own if not f.hidden})) or "none")
        return [Submission(student, name, None, None, why=why)], skipped
    chosen = [
        choose(student, name, group, stem, stems)
        for stem, group in sorted(by_stem.items(), key=lambda item: item[0] or "")
    ]
    skipped += [(other, f"{s.file.place} was graded because {s.why}")
                for s in chosen if s.file for other in s.others]  # fmt: skip
    return chosen, skipped


def _no_notebook(file: File) -> str:
    if file.is_folder:
        return "an empty folder"
    return "hidden, left by a system" if file.hidden else "not a notebook"


def choose(
    student: str, name: str, group: Sequence[File], stem: str | None, stems: list[str]
) -> Submission:
    """The file to grade: one that can be read, that says which set it is, the newest of these."""
    order = sorted(group, key=lambda f: (*_rank(f, stems), f.changed, f.place), reverse=True)
    first, *others = order
    why = _reason(first, others, stems) if others else ""
    return Submission(student, name, first, stem, tuple(others), why)


def _rank(file: File, stems: list[str]) -> tuple[bool, bool, bool]:
    """What counts before age: that it can be read, is a notebook, and says which set it is for."""
    try:
        notebook_of(file)
    except Unreadable:
        return False, file.is_notebook, False
    return True, file.is_notebook, says(file, stems) is not None


def _reason(first: File, others: Iterable[File], stems: list[str]) -> str:
    mine, best = _rank(first, stems), max(_rank(f, stems) for f in others)
    for place, reason in enumerate(
        ("it can be read", "it is a notebook", "it says which exercises it is")
    ):
        if mine[place] != best[place]:
            return reason
    return "it is the newest"


def who(file: File, stems: list[str]) -> tuple[str, str]:
    """Identifier and name of a student, from where the file lies."""
    first = file.place.parts[0]
    if found := _platform(first):
        return found["id"], found.groupdict().get("name", "")
    if len(file.place.parts) > 1 or file.is_folder:
        return re.sub(r"\.zip$", "", first, flags=re.IGNORECASE), ""
    return _before_a_stem(file.stem, stems) or file.stem, ""


def _platform(first: str) -> re.Match[str] | None:
    return next((m for pattern in PLATFORMS if (m := pattern.match(first))), None)


def _before_a_stem(bare: str, stems: list[str]) -> str:
    """ "ada" of "ada_pgd" and "ada-pgd"; "" where the name does not end with a set's stem."""
    return next((bare[: -len(s) - 1] for s in stems if re.search(rf"[_\-. ]{s}$", bare)), "")


def which(file: File, stems: list[str]) -> str | None:
    """The exercise set a file belongs to: as it says, else the only one there is."""
    return says(file, stems) or (stems[0] if len(stems) == 1 else None)


def says(file: File, stems: list[str]) -> str | None:
    """The exercise set that a file names, in its metadata or else in its name."""
    try:
        said = notebook_of(file).get("metadata", {}).get("adversarial_lab", {}).get("exercises")
    except (Unreadable, AttributeError):
        said = None
    if said in stems:
        return said
    bare = file.stem.lower()
    words = re.split(r"[^a-z_]+|(?<=.)_(?=.)", bare)
    named = [stem for stem in stems if stem in words or bare.endswith(stem)]
    return max(named, key=len) if named else None
