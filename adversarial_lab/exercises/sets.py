"""An exercise set as its authors write it, `exercises/<stem>/`: master.md, tests.py, mutants.py.

The text of tests.py is taken apart and never run whole: probes go into the sandbox, checks stay
outside and see plain arrays, so that whoever grades needs no torch and imports no probe.
"""

import ast
import hashlib
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from adversarial_lab.exercises.compare import TOLERANCE, Check, all_close, close, without_library

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
TABLES = ("QUESTIONS", "CASES")
FENCE = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
FRONT = re.compile(r"\A---\n(.*?)^---$\n", re.MULTILINE | re.DOTALL)
TAGS = re.compile(r"\A:tags: \[(.*?)\]\n\n?")


@dataclass(frozen=True)
class Cell:
    """One cell of a master: prose, code, or the answer to a question."""

    kind: str  # "markdown" or "code"
    source: str
    question: str | None = None  # of an answer cell


@dataclass(frozen=True)
class Case:
    """One test of one question."""

    name: str  # "project_linf.border": question and test
    question: str
    function: str  # the student's function, as the probe gets it
    points: int
    public: bool
    hint: str
    needs: str | None  # earns nothing where this case is lost
    tolerance: float

    @property
    def probe(self) -> str:
        """Name of its probe in tests.py."""
        return "probe_" + self.name.replace(".", "_")

    @property
    def check(self) -> str:
        """Name of its check in tests.py, if it has one."""
        return "check_" + self.name.replace(".", "_")


@dataclass(frozen=True)
class Mutant:
    """A wrong answer: which cases it must lose, and what its author is told."""

    name: str
    question: str
    source: str
    loses: frozenset[str]
    says: str

    @property
    def key(self) -> str:
        """Names are unique within a question only."""
        return f"{self.question}.{self.name}"


@dataclass(frozen=True)
class ExerciseSet:
    """All of `exercises/<stem>/`."""

    stem: str
    title: str
    modules: tuple[str, ...]  # what a solution may import, imported before the clock starts
    cells: tuple[Cell, ...]
    questions: dict[str, dict[str, Any]]
    cases: tuple[Case, ...]
    tests: ast.Module
    mutants: tuple[Mutant, ...]
    accepted: dict[str, list[str]]
    digest: str  # of the three files
    sources: dict[bool, str]  # the probes, by whether they are public
    checks: dict[str, Check] = field(compare=False, repr=False, default_factory=dict)

    @property
    def setup(self) -> list[str]:
        """Code cells that are given."""
        return [c.source for c in self.cells if c.kind == "code" and c.question is None]

    @property
    def answers(self) -> dict[str, str]:
        """Question -> its reference solution."""
        return {c.question: c.source for c in self.cells if c.question is not None}

    def points(self, question: str) -> int:
        """What a question is worth."""
        return sum(case.points for case in self.cases if case.question == question)

    def program(self, question: str, answer: str | None = None) -> list[str]:
        """Cells that answer one question alone: answers must not lean on each other."""
        return [*self.setup, self.answers[question] if answer is None else answer]

    def probes(self, public: bool) -> str:
        """The only part of tests.py that enters the sandbox: probes of one visibility, helpers."""
        return self.sources[public]


def _probes(tree: ast.Module, cases: tuple[Case, ...], public: bool) -> str:
    wanted = {case.probe for case in cases if case.public == public}
    return _source(tree, lambda name: name.startswith(("probe_", "check_")) and name not in wanted)


def public_source(exercises: ExerciseSet) -> str:
    """Public probes and checks with their helpers: what a student's own computer may know."""
    shown = {name for case in exercises.cases if case.public for name in (case.probe, case.check)}
    return _source(
        exercises.tests, lambda name: name.startswith(("probe_", "check_")) and name not in shown
    )


def load(folder: Path) -> ExerciseSet:
    """Read and check one folder. Raises ValueError with the file and what is wrong in it."""
    front, cells = read_master((folder / "master.md").read_text(encoding="utf-8"))
    tests = ast.parse((folder / "tests.py").read_text(encoding="utf-8"))
    tables = {name: _table(tests, name, folder / "tests.py") for name in TABLES}
    answers = {cell.question: cell.source for cell in cells if cell.question is not None}
    if set(answers) != set(tables["QUESTIONS"]):
        raise ValueError(
            f"{folder}: QUESTIONS must name the tagged answers {sorted(answers)},"
            f" got {sorted(tables['QUESTIONS'])}"
        )
    cases = tuple(_case(row, answers, folder) for row in tables["CASES"])
    mutants, accepted = _mutants(folder / "mutants.py", answers)
    modules = tuple(front.get("modules", "numpy").replace(",", " ").split())
    return ExerciseSet(
        folder.name, front["title"].strip('"'), modules, cells, tables["QUESTIONS"], cases,
        tests, mutants, accepted, _digest(folder),
        {public: _probes(tests, cases, public) for public in (True, False)}, _checks(tests, cases),
    )  # fmt: skip


def _digest(folder: Path) -> str:
    files = (folder / name for name in ("master.md", "tests.py", "mutants.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def load_all(root: Path) -> dict[str, ExerciseSet]:
    """Every exercise set below `root` by its stem."""
    return {path.parent.name: load(path.parent) for path in sorted(root.glob("*/master.md"))}


def read_master(text: str) -> tuple[dict[str, str], tuple[Cell, ...]]:
    """Front matter (its top level only) and cells of a MyST notebook."""
    front = FRONT.match(text)
    if not front:
        raise ValueError("master.md must start with a front matter between two lines of ---")
    pairs = re.findall(r"^(\w+): *(.+)$", front[1], re.MULTILINE)
    parts = FENCE.split(text[front.end() :])
    cells = []
    for k, part in enumerate(parts):
        if k % 2:
            cells.append(_code_cell(part))
        elif part.strip():
            cells += [Cell("markdown", p.strip()) for p in re.split(r"(?m)^\+\+\+$", part)]
    return dict(pairs), tuple(cells)


def _code_cell(body: str) -> Cell:
    tagged = TAGS.match(body)
    tags = [tag.strip() for tag in tagged[1].split(",")] if tagged else []
    source = body[tagged.end() if tagged else 0 :].strip("\n")
    if "answer" not in tags:
        return Cell("code", source)
    if len(tags) != 2 or source.count(BEGIN) != 1 or source.count(END) != 1:
        raise ValueError(f"an answer has tags [answer, question] and one solution, got {tags}")
    return Cell("code", source, next(tag for tag in tags if tag != "answer"))


def blank(source: str, question: str) -> str:
    """The answer cell as a student gets it."""
    head, rest = source.split(BEGIN)
    indent = head.rsplit("\n", 1)[-1]
    todo = f'# Your code here.\n{indent}raise NotImplementedError("{question}")'
    return head + todo + rest.split(END)[1]


def first_function(source: str) -> str:
    """Name of the function an answer defines; helpers may follow it."""
    return next(n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef))


def _table(tree: ast.Module, name: str, path: Path) -> Any:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    raise ValueError(f"{path} must define {name} as a plain literal")


def _case(row: dict[str, Any], answers: dict[str, str], folder: Path) -> Case:
    question = row["id"].split(".")[0]
    if question not in answers:
        raise ValueError(f"{folder}: case {row['id']!r} is of no question of {sorted(answers)}")
    return Case(
        row["id"], question, first_function(answers[question]), row["points"], row["public"],
        row["hint"], row.get("needs"), row.get("tolerance", TOLERANCE),
    )  # fmt: skip


def _checks(tree: ast.Module, cases: tuple[Case, ...]) -> dict[str, Check]:
    # torch is not imported: a check sees arrays, and grading should start at once
    source = _source(tree, lambda name: name.startswith("probe_") or name == "torch")
    namespace: dict[str, Any] = {"close": close}
    exec(compile(source, "<checks>", "exec"), namespace)
    return {
        case.name: namespace.get(case.check, partial(all_close, tolerance=case.tolerance))
        for case in cases
    }


def _source(tree: ast.Module, unwanted: Any) -> str:
    """tests.py without its tables and the unwanted functions and imports."""
    kept = []
    for node in without_library(tree):
        names = [getattr(node, "name", "")]
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        if isinstance(node, ast.Assign):
            names = [getattr(target, "id", "") for target in node.targets]
        if not any(unwanted(name) or name in TABLES for name in names):
            kept.append(node)
    return ast.unparse(ast.Module(kept, []))


def _mutants(path: Path, answers: dict[str, str]) -> tuple[tuple[Mutant, ...], dict]:
    namespace: dict[str, Any] = {}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    return tuple(_mutant(row, answers, path) for row in namespace["MUTANTS"]), namespace["ACCEPT"]


def _mutant(row: dict[str, Any], answers: dict[str, str], path: Path) -> Mutant:
    source = row.get("source", answers[row["question"]])
    for old, new in row.get("swap", ()):
        if old not in source:
            raise ValueError(f"{path}: {row['name']}: {old!r} is not in the answer any more")
        source = source.replace(old, new)
    loses = frozenset(f"{row['question']}.{case}" for case in row["loses"])
    return Mutant(row["name"], row["question"], source, loses, row["says"])
