"""The public part of an exercise set, as one small JSON file inside the package."""

import json
from pathlib import Path
from typing import Any

from adversarial_lab.exercises.compare import same
from adversarial_lab.exercises.inside.values import decode_all, encode_all
from adversarial_lab.exercises.reference import Reference
from adversarial_lab.exercises.sets import Case, ExerciseSet, first_function, public_source

PACKS = Path(__file__).parent / "_packs"
SEED = "public"


def pack(exercises: ExerciseSet, reference: Reference) -> dict[str, Any]:
    """Public cases with probes and checks, expected values, what known mistakes give. No answer."""
    public = {case.name for case in exercises.cases if case.public}

    def table(answers: dict) -> dict:
        return {name: encode_all(values) for name, values in answers.items() if name in public}

    return {
        "title": exercises.title,
        "seed": reference.seed,
        "questions": {q: _question(exercises, q) for q in exercises.questions},
        "source": public_source(exercises),
        "expected": table(reference.expected),
        "mistakes": [
            {"question": m.question, "says": m.says, "answers": table(reference.mutants[m.key])}
            for m in exercises.mutants
        ],
    }


def _question(exercises: ExerciseSet, question: str) -> dict[str, Any]:
    cases = [case for case in exercises.cases if case.question == question]
    return {
        "function": first_function(exercises.answers[question]),
        "hints": exercises.questions[question]["hints"],
        "hidden": sum(not case.public for case in cases),
        "hidden_points": sum(case.points for case in cases if not case.public),
        "cases": [_case(case) for case in cases if case.public],
    }


def _case(case: Case) -> dict[str, Any]:
    names = ("name", "points", "hint", "needs", "tolerance", "probe", "check")
    return {name: getattr(case, name) for name in names}


def text(packed: dict[str, Any]) -> str:
    """As it is committed: one fact a line, so that a change shows as one."""
    return json.dumps(packed, indent=1, sort_keys=True) + "\n"


def agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """The same pack, up to the last digits in which two machines may differ."""
    return _plain(one) == _plain(other) and all(
        same(decode_all(a), decode_all(b))
        for a, b in zip(_answers(one), _answers(other), strict=True)
    )


def _answers(packed: dict[str, Any]) -> list[dict]:
    tables = [packed["expected"], *(m["answers"] for m in packed["mistakes"])]
    return [table[name] for table in tables for name in sorted(table)]


def _plain(packed: dict[str, Any]) -> dict[str, Any]:
    mistakes = [{**m, "answers": sorted(m["answers"])} for m in packed["mistakes"]]
    return {**packed, "expected": sorted(packed["expected"]), "mistakes": mistakes}


def stems() -> list[str]:
    """The exercise sets that are shipped."""
    return sorted(path.stem for path in PACKS.glob("*.json"))


def read(stem: str) -> dict[str, Any]:
    """A shipped pack. Raises ValueError on an unknown stem."""
    path = PACKS / f"{stem}.json"
    if stem not in stems():
        raise ValueError(f"exercises must be one of {stems()}, got {stem!r}")
    return json.loads(path.read_text(encoding="utf-8"))
