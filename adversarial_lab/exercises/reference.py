"""What the reference and every planted mistake answer, computed once for a class."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

from adversarial_lab.exercises.compare import judge, same
from adversarial_lab.exercises.inside.cells import new_namespace
from adversarial_lab.exercises.inside.probes import run_probe
from adversarial_lab.exercises.inside.values import Values, decode_all, encode_all
from adversarial_lab.exercises.sets import Case, ExerciseSet

Answers = dict[str, Values]  # case -> values; a case that raised is not there
Evaluate = Callable[[ExerciseSet, list[str], Iterable[Case], str], Answers]
SALTS = 20


@dataclass(frozen=True)
class Reference:
    """The expected values of one set under one seed, and what its mutants answer."""

    seed: str
    expected: Answers
    mutants: dict[str, Answers]


def case_seed(seed: str, case: str) -> int:
    """The only thing about the secret that enters the sandbox: 32 bits for one case."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{case}".encode()).digest()[:4], "big")


def lost(exercises: ExerciseSet, answers: Answers, expected: Answers, question: str) -> set[str]:
    """The cases of a question that these answers do not pass."""
    cases = [case for case in exercises.cases if case.question == question]
    failed = {
        case.name
        for case in cases
        if case.name not in answers
        or judge(exercises.checks[case.name], answers[case.name], expected[case.name])
    }
    return with_needs(cases, failed)


def with_needs(cases: Iterable[Case], failed: set[str]) -> set[str]:
    """Add the cases that earn nothing because a case they need is lost."""
    rows = list(cases)
    while more := {c.name for c in rows if c.needs in failed} - failed:
        failed = failed | more
    return failed


def answer_here(
    exercises: ExerciseSet, cells: list[str], cases: Iterable[Case], seed: str
) -> Answers:
    """Run trusted cells and the probes in this process: our own solutions and mutants."""
    namespace, probes, answers = new_namespace(), probe_functions(exercises), {}
    for cell in cells:
        exec(_compiled(cell), namespace)
    for case in cases:
        try:
            given = run_probe(
                probes[case.probe], namespace[case.function], case_seed(seed, case.name)
            )
        except Exception:  # a mutant may fail in any way
            continue
        answers[case.name] = decode_all(given)
    return answers


def probe_functions(exercises: ExerciseSet) -> dict[str, Any]:
    """Every probe of the set, to be called in this process."""
    namespace: dict[str, Any] = {}
    for public in (True, False):
        exec(_compiled(exercises.probes(public)), namespace)
    return namespace


@cache
def _compiled(source: str) -> CodeType:
    return compile(source, "<trusted>", "exec")


def expected_answers(exercises: ExerciseSet, seed: str, evaluate: Evaluate) -> Answers:
    """What the reference answers. Raises ValueError unless it answers, and passes, every case."""
    expected: Answers = {}
    for question in exercises.questions:
        cases = [case for case in exercises.cases if case.question == question]
        expected |= evaluate(exercises, exercises.program(question), cases, seed)
    names = {case.name for case in exercises.cases}
    failed = names - set(expected) or {
        name for q in exercises.questions for name in lost(exercises, expected, expected, q)
    }
    if failed:
        raise ValueError(f"{exercises.stem}: the reference does not pass {sorted(failed)}")
    return expected


def prepare(exercises: ExerciseSet, secret: str, evaluate: Evaluate) -> Reference:
    """Reference and mutants, under the first salt where every mutant loses just what it must.

    Random inputs can, rarely, let a mistake through; then the next salt is tried, before any
    student is graded. Raises ValueError if there is none: the tests are too weak.
    """
    for salt in range(SALTS):
        seed = f"{secret}#{salt}"
        expected = expected_answers(exercises, seed, evaluate)
        mutants = {}
        for mutant in exercises.mutants:
            cases = [case for case in exercises.cases if case.question == mutant.question]
            program = exercises.program(mutant.question, mutant.source)
            answers = evaluate(exercises, program, cases, seed)
            if lost(exercises, answers, expected, mutant.question) != mutant.loses:
                break
            mutants[mutant.key] = answers
        else:
            return Reference(seed, expected, mutants)
    raise ValueError(f"{exercises.stem}: no seed of {SALTS} catches every planted mistake")


def named_mistake(
    exercises: ExerciseSet, reference: Reference, question: str, answers: Answers
) -> str:
    """What to tell a student whose answers equal a mutant's in every case of the question."""
    cases = [case.name for case in exercises.cases if case.question == question]
    for mutant in exercises.mutants:
        theirs = reference.mutants[mutant.key]
        if mutant.question != question or not any(case in theirs for case in cases):
            continue
        if all(same(answers.get(case), theirs.get(case)) for case in cases):
            return mutant.says
    return ""


def to_json(reference: Reference) -> dict[str, Any]:
    """The whole reference as JSON, for a grader that cannot compute it."""

    def table(answers: Answers) -> dict:
        return {case: encode_all(values) for case, values in answers.items()}

    mutants = {name: table(answers) for name, answers in reference.mutants.items()}
    return {"seed": reference.seed, "expected": table(reference.expected), "mutants": mutants}


def from_json(stored: dict[str, Any]) -> Reference:
    """The inverse of `to_json`."""

    def table(rows: dict) -> Answers:
        return {case: decode_all(values) for case, values in rows.items()}

    mutants = {name: table(rows) for name, rows in stored["mutants"].items()}
    return Reference(stored["seed"], table(stored["expected"]), mutants)
