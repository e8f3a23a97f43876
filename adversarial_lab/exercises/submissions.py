"""Finds a class's notebooks as learning platforms hand them out, and reads them without trust."""

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST = 20 * 2**20  # bytes of a file
MOST_CELLS = 2000
SUFFIXES = (".ipynb", ".py")

MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission")  # a folder for each student
CANVAS = re.compile(r"(?P<name>[a-z\-]+)_(?:late_)?(?P<id>\d+)_\d+_", re.IGNORECASE)  # a file
GRADESCOPE = re.compile(r"submission_(?P<id>\d+)$")


class Unreadable(Exception):
    """Not a notebook; the message says why."""


@dataclass(frozen=True)
class Submission:
    """One file of one student."""

    student: str
    name: str  # as the platform writes it, or empty
    path: Path
    stem: str | None  # of the exercise set; None: cannot be told
    others: int = 0  # older files of the same student for the same set


def find(root: Path, stems: list[str]) -> list[Submission]:
    """One submission for each student and exercise set: of several, the newest file."""
    if not root.is_dir():
        raise ValueError(f"submissions must be a folder, got {str(root)!r}")
    groups: dict[tuple[str, str], list[Submission]] = {}
    for path in _files(root):
        student, name = who(path.relative_to(root), stems)
        stem = which(path, stems)
        groups.setdefault((student, stem or ""), []).append(Submission(student, name, path, stem))
    return [_newest(group) for _, group in sorted(groups.items())]


def _files(root: Path) -> list[Path]:
    """Every notebook, links included (they are refused later, with a row), none followed."""
    found = []
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        linked = [f for f in folders if (Path(folder) / f).is_symlink()]
        found += [Path(folder) / name for name in linked]
        found += [Path(folder) / n for n in sorted(names) if n.lower().endswith(SUFFIXES)]
    return found


def _newest(group: list[Submission]) -> Submission:
    last = max(group, key=lambda s: (s.path.lstat().st_mtime_ns, str(s.path)))
    return Submission(last.student, last.name, last.path, last.stem, len(group) - 1)


def who(path: Path, stems: list[str]) -> tuple[str, str]:
    """Identifier and name of a student, from where the file lies."""
    first = path.parts[0]
    for pattern in (MOODLE, CANVAS, GRADESCOPE):
        found = pattern.match(first)
        if found:
            return found["id"], found.groupdict().get("name", "")
    if len(path.parts) > 1:
        return first, ""
    for stem in stems:
        if path.stem.endswith(f"_{stem}"):
            return path.stem.removesuffix(f"_{stem}"), ""
    return path.stem, ""


def which(path: Path, stems: list[str]) -> str | None:
    """The exercise set a file belongs to: as its notebook says, else as its name does."""
    try:
        said = notebook_of(path).get("metadata", {}).get("adversarial_lab", {}).get("exercises")
    except (Unreadable, AttributeError):
        said = None
    if said in stems:
        return said
    named = [stem for stem in stems if stem in re.split(r"[^a-z_]+|(?<=.)_(?=.)", path.stem.lower())
             or path.stem.lower().endswith(stem)]  # fmt: skip
    if named:
        return max(named, key=len)
    return stems[0] if len(stems) == 1 else None


def content(path: Path) -> bytes:
    """The bytes of an ordinary file of reasonable size. Raises Unreadable on any other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        why = "a link" if path.is_symlink() else f"not to be opened ({error.strerror})"
        raise Unreadable(f"the file is {why}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not an ordinary file")
        if status.st_size > LARGEST:
            raise Unreadable(f"the file has {status.st_size >> 20} MB, at most 20 are read")
        return file.read(LARGEST)


def text_of(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 if it begins like that."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable("the text is neither UTF-8 nor UTF-16") from None


def notebook_of(path: Path) -> dict[str, Any]:
    """The notebook as JSON; a script counts as a notebook of one cell."""
    text = text_of(content(path))
    if path.suffix.lower() == ".py":
        return {"cells": [{"cell_type": "code", "source": text}]}
    if not text.strip():
        raise Unreadable("the file is empty")
    try:
        notebook = json.loads(text)
    except RecursionError:
        raise Unreadable("the JSON is nested too deeply") from None
    except ValueError:
        raise Unreadable("the file is not JSON, or cut off") from None
    if not isinstance(notebook, dict):
        raise Unreadable("the JSON is not a notebook")
    return notebook


def read(path: Path) -> list[str]:
    """The code cells in order. Raises Unreadable with the reason."""
    notebook = notebook_of(path)
    cells = notebook.get("cells")
    if not isinstance(cells, list) or len(cells) > MOST_CELLS:
        raise Unreadable("the notebook has no list of cells")
    code = [_source(c) for c in cells if isinstance(c, dict) and c.get("cell_type") == "code"]
    if not code:
        raise Unreadable("the notebook has no code cell")
    return code


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""
