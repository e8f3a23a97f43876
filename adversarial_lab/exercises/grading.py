"""Grades one notebook: asks the sandbox for values and judges them outside."""

import builtins
import time
from dataclasses import dataclass, field
from typing import Any

from adversarial_lab.exercises.compare import judge
from adversarial_lab.exercises.conversation import (
    Box,
    Conversation,
    Died,
    NotIsolated,
    Tampered,
    TooBig,
    TooSlow,
    case_question,
    run_question,
)
from adversarial_lab.exercises.inside.values import Values, decode_all
from adversarial_lab.exercises.reference import Reference, case_seed, named_mistake, with_needs
from adversarial_lab.exercises.sets import Case, ExerciseSet

TRIES = 4  # to start a sandbox, before it is our fault
FORGIVEN = 2  # timeouts in a question before its other cases are skipped
NOT_GRADED = "not graded"
# what the worker may say about a case, and what it means
STATES = {
    "ok": "passed",
    "unwritten": "not written",
    "missing": "missing",
    "error": "error",
    "timeout": "timed out",
    "memory": "out of memory",
    "died": "crashed",
}
ENDS: dict[type[Exception], str] = {
    Died: "crashed",
    TooSlow: "timed out",
    TooBig: "out of memory",
}
EXCEPTIONS = {
    name for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}  # fmt: skip


@dataclass
class Outcome:
    """What became of one case. No points, and no 0 either, where the fault is ours."""

    state: str
    message: str = ""
    values: Values | None = None


@dataclass(frozen=True)
class Row:
    """One line of the grades."""

    question: str
    test: str
    points: int | None  # None: not graded
    out_of: int
    status: str
    public: bool
    message: str = ""
    hint: str = ""
    diagnosis: str = ""


@dataclass
class Graded:
    """One notebook's rows, and what its author should know about how it ran."""

    rows: list[Row]
    cells: list[dict[str, Any]] = field(default_factory=list)  # those that did not run through
    printed: str = ""
    note: str = ""


def grade(box: Box, exercises: ExerciseSet, reference: Reference, cells: list[str]) -> Graded:
    """Run the cells, then every case, and judge. Raises nothing a student could cause."""
    outcomes: dict[str, Outcome] = {}
    graded = Graded([])
    try:
        _interview(box, exercises, reference, cells, outcomes, graded)
    except Tampered as error:
        for case in exercises.cases:
            outcomes[case.name] = Outcome("tampered", str(error))
        graded.note = "This notebook interfered with the grader. Your instructor will look at it."
    except NotIsolated as error:
        for case in exercises.cases:
            outcomes.setdefault(case.name, Outcome(NOT_GRADED, "the sandbox did not start"))
        graded.note = f"Not graded, through no fault of yours: {str(error)[-200:]}"
    for case in exercises.cases:
        _judge(exercises, reference, case, outcomes[case.name])
    graded.rows = _rows(exercises, reference, outcomes)
    return graded


def refused(exercises: ExerciseSet, status: str, reason: str) -> Graded:
    """A row for every case of a notebook that could not be run at all."""
    ours = status == NOT_GRADED
    rows = [
        Row(case.question, case.name, None if ours else 0, case.points, status, case.public, reason)
        for case in exercises.cases
    ]
    return Graded(rows, note=reason)


def _interview(
    box: Box,
    exercises: ExerciseSet,
    reference: Reference,
    cells: list[str],
    outcomes: dict[str, Outcome],
    graded: Graded,
) -> None:
    """Fill in an outcome for every case, starting again after whatever kills the process."""
    only_definitions = False
    # public cases first: nothing hidden is in the process while it can still be read out
    order = sorted(exercises.cases, key=lambda case: not case.public)
    while todo := [case for case in order if case.name not in outcomes]:
        asked: list[Case] = []
        try:
            _session(box, exercises, reference, cells, todo, asked, outcomes, graded,
                     only_definitions)  # fmt: skip
        except tuple(ENDS) as error:
            state = ENDS[type(error)]
            if asked:
                _give_up(todo, asked[-1].question, state, outcomes)
            elif only_definitions:
                for case in todo:
                    outcomes[case.name] = Outcome(state)
            else:
                only_definitions = True
                graded.note = (
                    f"Your notebook stopped while its cells ran ({state});"
                    " only its definitions and imports were used."
                )


def _session(
    box: Box,
    exercises: ExerciseSet,
    reference: Reference,
    cells: list[str],
    todo: list[Case],
    asked: list[Case],
    outcomes: dict[str, Outcome],
    graded: Graded,
    only_definitions: bool,
) -> None:
    _start(box)
    with box.student() as talk:
        answer = talk.ask(run_question(cells, box.limits, only_definitions))
        graded.cells, graded.printed = _troubles(answer), str(answer.get("printed", ""))[:4000]
        public: bool | None = None
        for case in todo:
            if case.name in outcomes:
                continue
            if case.public != public:
                public = case.public
                talk.ask({"do": "probes", "source": exercises.probes(public)})
            asked.append(case)
            outcomes[case.name] = _ask(talk, case, reference)
            late = [c.name for c in exercises.cases if c.question == case.question
                    and c.name in outcomes and outcomes[c.name].state == "timed out"]  # fmt: skip
            if len(late) >= FORGIVEN:
                _give_up(todo, case.question, "timed out", outcomes)


def _start(box: Box) -> None:
    """A sandbox that does not start is tried again: the machine may be out of processes."""
    for k in range(TRIES):
        try:
            return box.ensure()
        except NotIsolated:
            if k == TRIES - 1:
                raise
            time.sleep(2**k)


def _give_up(todo: list[Case], question: str, state: str, outcomes: dict[str, Outcome]) -> None:
    for case in todo:
        if case.question == question:
            outcomes.setdefault(case.name, Outcome(state))


def _troubles(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells with an error, reduced to what a report shows."""
    reports = answer.get("cells")
    if not isinstance(reports, list) or not all(isinstance(r, dict) for r in reports):
        raise Tampered("a report that is none")
    return [
        {
            "cell": number,
            "line": str(report.get("line", ""))[:9],
            "error": str(report.get("error", ""))[:300],
        }
        for number, report in enumerate(reports, 1)
        if report.get("state") != "ok"
    ]


def _ask(talk: Conversation, case: Case, reference: Reference) -> Outcome:
    seed = case_seed(reference.seed, case.name)
    answer = talk.ask(case_question(case, seed, talk.limits.case_seconds))
    state = answer.get("state")
    if not isinstance(state, str) or state not in STATES:
        raise Tampered("a state that does not exist")
    if state == "ok":
        try:
            return Outcome("passed", values=decode_all(answer["out"]))
        except (ValueError, KeyError):
            raise Tampered("values that are no arrays") from None
    message = str(answer.get("error", ""))[:300]
    if case.public:
        at = str(answer.get("at", ""))[:80]
        return Outcome(STATES[state], f"{message} ({at})" if at else message)
    # the text of an error could carry what a hidden probe looks like
    kind = message.split(":")[0]
    return Outcome(STATES[state], kind if kind in EXCEPTIONS else "")


def _judge(exercises: ExerciseSet, reference: Reference, case: Case, outcome: Outcome) -> None:
    """Judge the values of a case that gave some."""
    if outcome.values is None:
        return
    try:
        said = judge(exercises.checks[case.name], outcome.values, reference.expected[case.name])
    except Exception as error:
        outcome.state, outcome.message = NOT_GRADED, f"our check failed: {type(error).__name__}"
        return
    if said is not None:
        outcome.state, outcome.message = "failed", said if case.public else ""


def _rows(exercises: ExerciseSet, reference: Reference, outcomes: dict[str, Outcome]) -> list[Row]:
    lost = {name for name, o in outcomes.items() if o.state not in ("passed", NOT_GRADED)}
    for case in exercises.cases:
        if case.name not in lost and case.name in with_needs(exercises.cases, lost):
            outcomes[case.name] = Outcome("failed", f"counts only together with {case.needs}")
    lost = with_needs(exercises.cases, lost)
    answers = {name: o.values for name, o in outcomes.items() if o.values is not None}
    said = {
        question: named_mistake(exercises, reference, question, answers)
        for question in exercises.questions
        if any(name.split(".")[0] == question for name in lost)
    }
    return [
        _row(case, outcomes[case.name], said.get(case.question, "")) for case in exercises.cases
    ]


def _row(case: Case, outcome: Outcome, diagnosis: str) -> Row:
    points = case.points if outcome.state == "passed" else 0
    wrong = outcome.state not in ("passed", NOT_GRADED)
    return Row(
        case.question, case.name, None if outcome.state == NOT_GRADED else points, case.points,
        outcome.state, case.public, outcome.message, case.hint if wrong else "",
        diagnosis if wrong else "",
    )  # fmt: skip
