"""A package for Gradescope: their container is the sandbox, our worker another user inside it."""

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from adversarial_lab.exercises.conversation import Box, Limits
from adversarial_lab.exercises.files import Unreadable, files, read
from adversarial_lab.exercises.grading import NOT_GRADED, Graded, grade, refused
from adversarial_lab.exercises.reference import Reference, from_json, to_json
from adversarial_lab.exercises.sets import ExerciseSet, load
from adversarial_lab.exercises.submissions import choose

SETUP = """#!/usr/bin/env bash
set -e
apt-get update -qq
apt-get install -y -qq python3 python3-venv
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install -q {requirements}
"""
RUN = """#!/usr/bin/env bash
# a student's code runs as another user, who must not read the tests nor write the result
chmod -R go-rwx /autograder/source /autograder/results
chmod 711 /autograder /autograder/source /autograder/source/adversarial_lab
chmod 711 /autograder/source/adversarial_lab/exercises
chmod -R go+rX /autograder/source/adversarial_lab/exercises/inside
cd /autograder/source
exec /autograder/venv/bin/python -m adversarial_lab.exercises.gradescope /autograder
"""
STAMP = (2020, 1, 1, 0, 0, 0)  # the same package from the same sources


def package(root: Path, exercises: ExerciseSet, reference: Reference) -> bytes:
    """The zip to upload: grader, exercise set, expected values and seed. Keep it private."""
    packages = dict.fromkeys(module.partition(".")[0] for module in exercises.modules)
    needs = dict.fromkeys([*packages, "numpy", "tqdm"])
    texts = {
        "setup.sh": SETUP.format(requirements=" ".join(needs)),
        "run_autograder": RUN,
        "reference.json": json.dumps({"stem": exercises.stem, **to_json(reference)}),
        "adversarial_lab/__init__.py": "",
    }
    for name in ("master.md", "tests.py", "mutants.py"):
        path = root / "exercises" / exercises.stem / name
        texts[f"exercises/{exercises.stem}/{name}"] = path.read_text(encoding="utf-8")
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        name = path.relative_to(here).as_posix()
        texts[f"adversarial_lab/exercises/{name}"] = path.read_text(encoding="utf-8")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            info = zipfile.ZipInfo(name, STAMP)
            info.external_attr = (0o755 if name.startswith(("setup", "run")) else 0o644) << 16
            archive.writestr(info, text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def result(graded: Graded) -> dict[str, Any]:
    """What Gradescope reads. Without a score it asks for manual grading, so ours is never a 0."""
    tests = []
    for row in graded.rows:
        said = [row.message, row.diagnosis or row.hint]
        test: dict[str, Any] = {
            "name": row.test,
            "max_score": row.out_of,
            "visibility": "visible" if row.public else "after_published",
            "output": "\n".join([row.status, *(text for text in said if text)]),
        }
        if row.points is not None:
            test |= {"score": row.points, "status": "passed" if row.points else "failed"}
        tests.append(test)
    whole: dict[str, Any] = {"output": graded.note, "tests": tests}
    if not any(row.status == NOT_GRADED for row in graded.rows):
        whole["score"] = sum(row.points or 0 for row in graded.rows)
    return whole


def run(root: Path, sandbox: str = "disposable") -> dict[str, Any]:
    """Grade the one submission in Gradescope's folders."""
    stored = json.loads((root / "source/reference.json").read_text(encoding="utf-8"))
    exercises = load(root / "source/exercises" / stored["stem"])
    handed = [f for f in files(root / "submission") if f.is_notebook or f.is_script]
    box = Box(sandbox, exercises.modules, Limits())
    try:
        if not handed:
            raise Unreadable("no notebook in the submission")
        chosen = choose("", "", handed, exercises.stem, [exercises.stem])
        assert chosen.file is not None  # one of those handed in
        graded = grade(box, exercises, from_json(stored), read(chosen.file))
        graded.note = f"{chosen.told} {graded.note}".strip()
    except Unreadable as error:
        graded = refused(exercises, "unreadable", str(error))
    finally:
        box.close()
    return result(graded)


if __name__ == "__main__":
    home = Path(sys.argv[1])
    (home / "results/results.json").write_text(json.dumps(run(home)), encoding="utf-8")
