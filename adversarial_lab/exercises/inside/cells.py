"""Runs a notebook's cells statement by statement, under limits of CPU time."""

import __future__

import ast
import io
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

DEFINITIONS = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
# magics whose cell is Python
RUN_THROUGH = ("%%time", "%%timeit", "%%capture", "%%prun", "%%debug", "%%python", "%%python3")
# a line of IPython, alone or behind "name = "; what is in front of it stays
IPYTHON = re.compile(r"^([ \t]*)((?:[^\W\d][\w.,*() \t\[\]]*=[ \t]*)?)([%!][^=].*|[?].*)$")
TIMED = re.compile(r"^([ \t]*)%time[ \t]+(?=[^ \t])")  # the rest of the line is Python
HELP = re.compile(r"^([ \t]*)[\w.]+\?+[ \t]*$")
STUDENTS = ("check", "check_all", "export")  # what a notebook imports of the library
FUTURE = "__future_flags__"  # in a notebook's namespace
MOST_TEXT = 4000  # characters kept of what a notebook prints


class Late(BaseException):
    """Out of time; not an Exception, so that `except Exception` does not catch it."""


def _ring(*_: object) -> None:
    raise Late


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise Late after so much CPU time, or six times as much by the clock (a sleep)."""
    signal.signal(signal.SIGPROF, _ring)
    signal.signal(signal.SIGALRM, _ring)
    # rings again and again: the first may fall into an `except:` of the student
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.2)
    signal.setitimer(signal.ITIMER_REAL, 6 * seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


class Printed(io.TextIOBase):
    """Stands for stdout: keeps the first characters and forgets the flood."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text[: MOST_TEXT - len(self.text)]
        return len(text)


def plain(source: str) -> str:
    """The cell as Python: lines of IPython (`%pip`, `f = !ls`, `help?`) do nothing or give None."""
    first = source.lstrip().split("\n", 1)
    if first[0].startswith("%%"):
        known = first[0].split()[0] in RUN_THROUGH
        source = "\n" + first[1] if known and len(first) > 1 else ""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        source = "\n".join(_lines(source.split("\n")))
    return source


def _lines(lines: list[str]) -> Iterator[str]:
    """The lines without IPython, as many as there were: one that goes on after a \\ is several."""
    goes_on = False
    for line in lines:
        if goes_on:
            goes_on = line.rstrip().endswith("\\")
            yield ""
        elif TIMED.match(line):
            yield TIMED.sub(r"\1", line)
        elif found := IPYTHON.match(line):
            goes_on = line.rstrip().endswith("\\")
            indent, target, _ = found.groups()
            yield f"{indent}{target}None" if target else f"{indent}pass"
        else:
            yield HELP.sub(r"\1pass", line)


def describe(error: BaseException) -> str:
    """Class and message of an error whose own __str__ may raise."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return "an error that cannot be printed"


def is_definition(node: ast.stmt) -> bool:
    """A definition, an import, or a plain constant such as `eps = 0.1`."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return not any(isinstance(part, ast.Call) for part in ast.walk(node))
    return isinstance(node, DEFINITIONS)


def run_cell(
    source: str, name: str, namespace: dict[str, Any], seconds: float, only_definitions: bool
) -> dict[str, Any]:
    """Run one cell. After an error, of the rest only definitions, imports and constants."""
    try:
        tree = ast.parse(plain(source), name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"state": "syntax", "error": describe(error), "line": getattr(error, "lineno", 0)}
    report: dict[str, Any] = {"state": "ok"}
    namespace[FUTURE] |= future(tree)
    for node in tree.body:
        if (only_definitions or report["state"] != "ok") and not is_definition(node):
            continue
        problem = run_statement(node, name, namespace, seconds)
        if problem and report["state"] == "ok":
            report = {"error": problem, "line": node.lineno}
            report["state"] = "timeout" if problem == "Late" else "error"
    return report


def future(tree: ast.Module) -> int:
    """The flags of `from __future__ import ...`, which hold for the rest of a notebook."""
    names = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for alias in node.names
    ]
    features = (getattr(__future__, name, None) for name in names)
    return sum({feature.compiler_flag for feature in features if feature is not None})


def run_statement(
    node: ast.stmt, name: str, namespace: dict[str, Any], seconds: float
) -> str | None:
    """Run one statement; None or what went wrong."""
    try:
        with at_most(seconds):
            flags = namespace[FUTURE]
            exec(compile(ast.Module([node], []), name, "exec", flags, True), namespace)
    except Late:
        return "Late"
    except BaseException as error:  # SystemExit and KeyboardInterrupt are the student's, too
        return describe(error)
    return None


def run_cells(
    cells: list[str], namespace: dict[str, Any], seconds: float, only_definitions: bool = False
) -> list[dict[str, Any]]:
    """Run all cells in order; one report each."""
    return [
        run_cell(source, cell_name(k), namespace, seconds, only_definitions)
        for k, source in enumerate(cells, 1)
    ]


def cell_name(number: int) -> str:
    """What stands for the file name in a traceback."""
    return f"<cell {number}>"


def new_namespace() -> dict[str, Any]:
    """Where a notebook runs: `check` and its kind are there and do nothing."""

    def nothing(*_: object, **__: object) -> None:
        return None

    given = {"display": nothing, "get_ipython": Nothing(), **dict.fromkeys(STUDENTS, nothing)}
    return {"__name__": "__main__", FUTURE: 0, **given}


class Nothing:
    """Stands for IPython: whatever is asked of it, and of the answer, does nothing."""

    def __getattr__(self, name: str) -> "Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> "Nothing":
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def hide_library(nothing: Callable[..., None]) -> None:
    """Let `from adversarial_lab import check` do nothing, where the library is not in reach."""
    for name in ("adversarial_lab", "adversarial_lab.exercises"):
        stub = ModuleType(name)
        vars(stub).update(dict.fromkeys(STUDENTS, nothing))
        stub.__spec__ = ModuleSpec(name, None)  # a notebook asks whether it is installed
        sys.modules[name] = stub
