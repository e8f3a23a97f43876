"""`check`, `check_all`, `export`: useful answers under each question, at once, without a network.

Nothing but the standard library is imported here before one of them is called.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

SECONDS = 20  # of CPU time for one test


def check(question: str, function: Callable) -> None:
    """Try `function` on the public tests of a question such as "pgd.project_linf".

    Prints, for each test, what was expected and what came; from the second answer on also what it
    may be, and from the third on one hint more for each. The same answer again is told nothing
    more. Raises ValueError on an unknown question and TypeError if `function` is not one.
    """
    stem, name = _find(question)
    if not callable(function):
        raise TypeError(f"function must be a function, got {type(function).__name__}")
    results = _results(stem, name, function)
    if all(result["said"] == UNWRITTEN for result in results):
        print(f"{question}: not written yet.")
        return
    from adversarial_lab.exercises import progress

    pack, passed = _pack(stem), all(result["said"] is None for result in results)
    tries = progress.note(question, function, _points(results), passed).tries
    lines = [_headline(question, pack["questions"][name], results), *map(_line, results)]
    if not passed:
        lines += _help(pack, name, results, tries)
    print("\n".join(lines))


def check_all(stem: str, namespace: dict[str, Any] | None = None) -> None:
    """Every question of an exercise set: which answers pass, the points so far, what is left.

    namespace: where the answers are, by default where this is called. Gives no hints.
    """
    import sys

    answers = sys._getframe(1).f_globals if namespace is None else namespace
    pack, got, best, left = _pack(_stem(stem)), 0, 0, []
    for name, asked in pack["questions"].items():
        function, points = answers.get(asked["function"]), sum(c["points"] for c in asked["cases"])
        results = _results(stem, name, function) if callable(function) else []
        reached = _points(results)
        state = _state(results)
        got, best = got + reached, best + points
        left += [] if state == "passes" else [name]
        print(f"  {f'{reached} of {points}':>9}  {name}: {state}")
    hidden = sum(asked["hidden_points"] for asked in pack["questions"].values())
    print(
        f"{stem}: {got} of {best} points on the public tests; {hidden} more are given at grading."
    )
    print(f"Left: {', '.join(left)}." if left else "Nothing is left. export(...) writes the file.")


def export(stem: str) -> str:
    """Write what was run in this notebook to STEM_answers.ipynb, the file to hand in; its name.

    Says what is missing. Raises RuntimeError outside of Jupyter, where the file itself is there.
    """
    import sys

    from adversarial_lab.exercises.export import history, write

    cells = history()
    path = write(_stem(stem), cells)
    check_all(stem, sys._getframe(1).f_globals)
    print(f"{len(cells)} cells are in {path}.")
    return path


def _state(results: list[dict[str, Any]]) -> str:
    said = [result["said"] for result in results]
    if not said:
        return "not defined: run its cell"
    if all(one == UNWRITTEN for one in said):
        return UNWRITTEN
    wrong = sum(one is not None for one in said)
    return f"{wrong} of {len(said)} tests fail" if wrong else "passes"


def _points(results: list[dict[str, Any]]) -> int:
    return sum(result["case"]["points"] for result in results if result["said"] is None)


def _results(stem: str, name: str, function: Callable) -> list[dict[str, Any]]:
    pack = _pack(stem)
    results = [_run(pack, case, function) for case in pack["questions"][name]["cases"]]
    _count_needs(results)
    return results


UNWRITTEN = "not written yet"


@cache
def _pack(stem: str) -> dict[str, Any]:
    from adversarial_lab.exercises import packs

    return packs.read(stem)


def _stem(stem: str) -> str:
    from adversarial_lab.exercises import packs

    if stem not in packs.stems():
        raise ValueError(f"stem must be one of {packs.stems()}, got {stem!r}")
    return stem


def _find(question: str) -> tuple[str, str]:
    from adversarial_lab.exercises import packs

    stem, _, name = str(question).partition(".")
    if stem not in packs.stems():
        raise ValueError(f"question must begin with one of {packs.stems()}, got {question!r}")
    known = list(_pack(stem)["questions"])
    if name not in known:
        raise ValueError(f"question must be {stem}. and one of {known}, got {question!r}")
    return stem, name


@cache
def _namespace(stem_title: str, source: str) -> dict[str, Any]:
    from adversarial_lab.exercises.compare import close

    namespace: dict[str, Any] = {"close": close}
    exec(compile(source, f"<tests of {stem_title}>", "exec"), namespace)
    return namespace


def _run(pack: dict[str, Any], case: dict[str, Any], function: Callable) -> dict[str, Any]:
    """One case: what is wrong (None: nothing), where, and the values that came."""
    from functools import partial

    from adversarial_lab.exercises.compare import all_close, judge
    from adversarial_lab.exercises.inside.cells import Late
    from adversarial_lab.exercises.inside.probes import run_probe
    from adversarial_lab.exercises.inside.values import decode_all
    from adversarial_lab.exercises.reference import case_seed

    tests = _namespace(pack["title"], pack["source"])
    result: dict[str, Any] = {"case": case, "where": "", "values": None, "form": False}
    asked, returned = _recorded(function)
    try:
        with _at_most(SECONDS):
            given = run_probe(tests[case["probe"]], asked, case_seed(pack["seed"], case["name"]))
    except NotImplementedError:
        return {**result, "said": UNWRITTEN}
    except Late:
        return {**result, "said": f"stopped after {SECONDS} seconds: does a loop never end?"}
    except Exception as error:
        place = where(error, function)
        if returned and not place:  # the answer came, and the test could not read it
            return {**result, "said": _form(returned[-1], error), "form": True}
        return {**result, "said": f"{type(error).__name__}: {error}", "where": place}
    result["values"] = decode_all(given)
    rule = tests.get(case["check"], partial(all_close, tolerance=case["tolerance"]))
    expected = decode_all(pack["expected"][case["name"]])
    said = judge(rule, result["values"], expected)
    return {**result, "said": said, "form": said is not None and "expected shape" in said}


def _recorded(function: Callable) -> tuple[Callable, list[Any]]:
    """The function, and the list of what it has returned so far."""
    from functools import wraps

    returned: list[Any] = []

    @wraps(function)
    def asked(*args: Any, **kwargs: Any) -> Any:
        returned.append(function(*args, **kwargs))
        return returned[-1]

    return asked, returned


def _form(value: Any, error: Exception) -> str:
    """What is wrong with the form of an answer, whatever its numbers are."""
    import re

    if value is None:
        return "your function returned None: is a `return` missing?"
    wanted = re.search(r"expected (\d+)", str(error))
    if "unpack" in str(error) and wanted:
        came = f"{len(value)} values" if isinstance(value, tuple | list) else "one value"
        return f"your function returned {came}, and the test wants {wanted[1]}"
    kind = type(value).__name__
    return f"your function returned a {kind}, which the test could not use: {error}"


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """`cells.at_most` where signals are: not on Windows, nor outside of the main thread."""
    import signal
    import threading

    from adversarial_lab.exercises.inside.cells import at_most

    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return
    before = [(s, signal.getsignal(s)) for s in (signal.SIGPROF, signal.SIGALRM)]
    try:
        with at_most(seconds):
            yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def where(error: BaseException, function: Callable) -> str:
    """The line of the student's function that the error came through."""
    import inspect
    import linecache
    import traceback

    code = getattr(inspect.unwrap(function), "__code__", None)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        line = frame.lineno or 0
        if code and frame.filename == code.co_filename and line >= code.co_firstlineno:
            text = linecache.getline(frame.filename, line).strip()
            number = line - code.co_firstlineno + 1
            return f"line {number} of {function.__name__}" + (f": {text}" if text else "")
    return ""


def _count_needs(results: list[dict[str, Any]]) -> None:
    said = {result["case"]["name"]: result["said"] for result in results}
    for result in results:
        needed = result["case"]["needs"]
        if result["said"] is None and said.get(needed):
            result["said"] = f"counts only together with {needed}"


def _headline(question: str, asked: dict[str, Any], results: list[dict[str, Any]]) -> str:
    passed = sum(result["said"] is None for result in results)
    best = sum(result["case"]["points"] for result in results)
    return (
        f"{question}: {passed} of {len(results)} public tests pass, {_points(results)} of {best}"
        f" points.{_hidden(asked)}"
    )


def _hidden(asked: dict[str, Any]) -> str:
    if not asked["hidden"]:
        return ""
    tests = f"{asked['hidden']} hidden test" + "s" * (asked["hidden"] != 1)
    points = f"{asked['hidden_points']} point" + "s" * (asked["hidden_points"] != 1)
    return f" {tests} ({points}) run{'s' * (asked['hidden'] == 1)} at grading."


def _line(result: dict[str, Any]) -> str:
    name = result["case"]["name"].split(".", 1)[1]
    if result["said"] is None:
        return f"  pass  {name}"
    place = f"\n        {result['where']}" if result["where"] else ""
    return f"  FAIL  {name}: {result['said']}{place}"


def _help(pack: dict[str, Any], name: str, results: list[dict], tries: int) -> list[str]:
    """Nothing on the first answer; then the known mistake or the test's hint; then the ladder."""
    if tries < 2:
        return ["  Try again: the next check says more."]
    failed = next(
        (r for r in results if r["said"] not in (None, UNWRITTEN) and not r["form"]), None
    )
    if failed is None:
        return ["  First the form of the answer: hints are about what it says."]
    mistake = _mistake(pack, name, results)
    lines = [f"  Hint: {mistake or failed['case']['hint']}"]
    ladder = pack["questions"][name]["hints"][: tries - 2]
    return lines + [f"  Step {k}: {hint}" for k, hint in enumerate(ladder, 1)]


def _mistake(pack: dict[str, Any], name: str, results: list[dict]) -> str:
    """What is said of the one known mistake that gives these very values; of two, nothing."""
    from adversarial_lab.exercises.compare import same
    from adversarial_lab.exercises.inside.values import decode_all

    found = set()
    for known in pack["mistakes"]:
        theirs = {case: decode_all(values) for case, values in known["answers"].items()}
        if known["question"] == name and theirs:
            names = [(result["case"]["name"], result["values"]) for result in results]
            if all(same(values, theirs.get(case)) for case, values in names):
                found.add(known["says"])
    return found.pop() if len(found) == 1 else ""
