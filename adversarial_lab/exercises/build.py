"""Writes what is generated from the masters, and tells what of it is stale."""

import json
import secrets
from pathlib import Path

from adversarial_lab.exercises import gradescope, notebooks, packs
from adversarial_lab.exercises.reference import answer_here, prepare
from adversarial_lab.exercises.sets import ExerciseSet

STUDENT = Path("notebooks") / "exercises"
PRIVATE = Path("_build") / "exercises"  # not in git: solutions and what holds a secret seed


def public_files(root: Path, sets: dict[str, ExerciseSet]) -> dict[Path, str]:
    """What is committed: student notebooks and packs. A pack that still agrees stays as it is."""
    files = {}
    for stem, exercises in sets.items():
        files[root / STUDENT / f"{stem}.ipynb"] = notebooks.student(exercises)
        fresh = packs.pack(exercises, prepare(exercises, packs.SEED, answer_here))
        path = packs.PACKS / f"{stem}.json"
        if path.exists() and packs.agree(json.loads(path.read_text(encoding="utf-8")), fresh):
            files[path] = path.read_text(encoding="utf-8")
        else:
            files[path] = packs.text(fresh)
    return files


def stale(root: Path, sets: dict[str, ExerciseSet]) -> list[Path]:
    """Committed files that differ from what the masters give, and those that nothing gives."""
    files = public_files(root, sets)
    there = {*(root / STUDENT).glob("*.ipynb"), *packs.PACKS.glob("*.json")}
    changed = {
        path
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    return sorted(changed | there - set(files))


def build(root: Path, sets: dict[str, ExerciseSet], seed: str | None = None) -> list[Path]:
    """Write everything; returns the files. seed: secret of the autograder packages, else random."""
    files = public_files(root, sets)
    for stem, exercises in sets.items():
        files[root / PRIVATE / "solutions" / f"{stem}.ipynb"] = notebooks.solution(exercises)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
    written = list(files)
    for stem, exercises in sets.items():
        path = root / PRIVATE / "gradescope" / f"{stem}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        reference = prepare(exercises, seed or secrets.token_hex(16), answer_here)
        path.write_bytes(gradescope.package(root, exercises, reference))
        written.append(path)
    return written
