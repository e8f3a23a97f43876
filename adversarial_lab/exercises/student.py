"""`check`: a useful answer under each question, at once and without a network.

Nothing but the standard library is imported here before `check` is called.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

_tries: Counter[str] = Counter()  # failed checks of a question since it last passed


def check(question: str, function: Callable) -> None:
    """Try `function` on the public tests of a question such as "pgd.project_linf".

    Prints, for each test, what was expected and what came; from the second try on also what it
    may be, and from the third on one hint more each time. Raises ValueError on an unknown question
    and TypeError if `function` is not one.
    """
    stem, name = _find(question)
    if not callable(function):
        raise TypeError(f"function must be a function, got {type(function).__name__}")
    pack = _pack(stem)
    asked = pack["questions"][name]
    results = [_run(pack, case, function) for case in asked["cases"]]
    _count_needs(results)
    if any(result["said"] == UNWRITTEN for result in results):
        print(f"{question}: not written yet.")
        return
    passed = all(result["said"] is None for result in results)
    _tries[question] = 0 if passed else _tries[question] + 1
    lines = [_headline(question, asked, results), *map(_line, results)]
    if not passed:
        lines += _help(pack, name, results, _tries[question])
    print("\n".join(lines))


UNWRITTEN = "not written yet"


@cache
def _pack(stem: str) -> dict[str, Any]:
    from adversarial_lab.exercises import packs

    return packs.read(stem)


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
    from adversarial_lab.exercises.inside.probes import run_probe
    from adversarial_lab.exercises.inside.values import decode_all
    from adversarial_lab.exercises.reference import case_seed

    tests = _namespace(pack["title"], pack["source"])
    result: dict[str, Any] = {"case": case, "where": "", "values": None}
    try:
        given = run_probe(tests[case["probe"]], function, case_seed(pack["seed"], case["name"]))
    except NotImplementedError:
        return {**result, "said": UNWRITTEN}
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        return {**result, "said": said, "where": where(error, function)}
    result["values"] = decode_all(given)
    rule = tests.get(case["check"], partial(all_close, tolerance=case["tolerance"]))
    expected = decode_all(pack["expected"][case["name"]])
    return {**result, "said": judge(rule, result["values"], expected)}


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
    passed = [result["case"]["points"] for result in results if result["said"] is None]
    best = sum(result["case"]["points"] for result in results)
    hidden = f" {asked['hidden']} hidden tests ({asked['hidden_points']} points) run at grading."
    return (
        f"{question}: {len(passed)} of {len(results)} public tests pass,"
        f" {sum(passed)} of {best} points.{hidden if asked['hidden'] else ''}"
    )


def _line(result: dict[str, Any]) -> str:
    name = result["case"]["name"].split(".", 1)[1]
    if result["said"] is None:
        return f"  pass  {name}"
    place = f"\n        {result['where']}" if result["where"] else ""
    return f"  FAIL  {name}: {result['said']}{place}"


def _help(pack: dict[str, Any], name: str, results: list[dict], tries: int) -> list[str]:
    """Nothing on the first try; then the known mistake or the test's hint; then the ladder."""
    if tries < 2:
        return ["  Try again: the next check says more."]
    failed = next(result for result in results if result["said"] is not None)
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
