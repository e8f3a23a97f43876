"""Every exercise set is proved by wrong answers; the grader, by honest and broken notebooks."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from adversarial_lab import address, check
from adversarial_lab.exercises import notebooks, packs, progress, student, submissions
from adversarial_lab.exercises.build import stale
from adversarial_lab.exercises.compare import close, judge, same
from adversarial_lab.exercises.files import read
from adversarial_lab.exercises.inside.values import decode_all, encode_all
from adversarial_lab.exercises.reference import (
    answer_here,
    expected_answers,
    lost,
    named_mistake,
    prepare,
)
from adversarial_lab.exercises.sets import BEGIN, END, blank, first_function, load_all
from tools.book import ROOT

SETS = load_all(ROOT / "exercises")
SEEDS = [f"seed {k}" for k in range(int(os.environ.get("ADVERSARIAL_LAB_SEEDS", 20)))]
STEMS = pytest.mark.parametrize("stem", SETS)
MUTANTS = [(stem, mutant) for stem, exercises in SETS.items() for mutant in exercises.mutants]
ACCEPTED = [
    (stem, question, k, source)
    for stem, exercises in SETS.items()
    for question, sources in exercises.accepted.items()
    for k, source in enumerate(sources)
]
TRIVIAL = ["return {0}", "return {0} * 0", "return {0} * float('nan')", "return 0.0", "return 1.0",
           "return None", "return True", "raise ValueError"]  # fmt: skip


@cache
def expected(stem, seed):
    return expected_answers(SETS[stem], seed, answer_here)


def lost_by(stem, question, source, seed):
    exercises = SETS[stem]
    cases = [case for case in exercises.cases if case.question == question]
    answers = answer_here(exercises, exercises.program(question, source), cases, seed)
    return lost(exercises, answers, expected(stem, seed), question)


def cases_of(stem, question):
    return {case.name for case in SETS[stem].cases if case.question == question}


@STEMS
def test_the_reference_passes_every_case(stem):
    for seed in SEEDS:
        assert set(expected(stem, seed)) == {case.name for case in SETS[stem].cases}


@STEMS
def test_a_blank_answer_earns_nothing(stem):
    for question, source in SETS[stem].answers.items():
        given = blank(source, question)
        assert lost_by(stem, question, given, SEEDS[0]) == cases_of(stem, question)


@STEMS
def test_a_trivial_answer_earns_nothing(stem):
    for question, source in SETS[stem].answers.items():
        function = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef))
        names = [argument.arg for argument in function.args.args]
        bodies = {body.format(name) for body in TRIVIAL for name in names}
        for body in sorted(bodies):
            given = (
                f"import numpy\nimport torch\ndef {function.name}({', '.join(names)}):\n  {body}"
            )
            kept = cases_of(stem, question) - lost_by(stem, question, given, SEEDS[0])
            assert not kept, f"{body!r} earns {kept}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "stem, mutant", MUTANTS, ids=[f"{s}.{m.question}-{m.name}" for s, m in MUTANTS]
)
def test_a_mistake_loses_exactly_its_cases(stem, mutant):
    for seed in SEEDS:
        found = lost_by(stem, mutant.question, mutant.source, seed)
        assert found == mutant.loses, f"{seed}: lost {found}, declared {set(mutant.loses)}"


@STEMS
def test_every_case_is_lost_by_some_mistake(stem):
    caught = frozenset().union(*(mutant.loses for mutant in SETS[stem].mutants))
    assert caught == {case.name for case in SETS[stem].cases}


@STEMS
def test_a_mistake_is_called_by_its_own_name(stem):
    exercises, reference = SETS[stem], prepare(SETS[stem], SEEDS[0], answer_here)
    for mutant in exercises.mutants:
        answers = reference.mutants[mutant.key]
        assert named_mistake(exercises, reference, mutant.question, answers) == mutant.says


@pytest.mark.parametrize(
    "stem, question, k, source", ACCEPTED, ids=[f"{s}.{q}-{k}" for s, q, k, _ in ACCEPTED]
)
def test_another_right_answer_passes(stem, question, k, source):
    for seed in SEEDS:
        assert not lost_by(stem, question, source, seed)


@STEMS
def test_a_set_is_complete(stem):
    exercises = SETS[stem]
    assert set(exercises.accepted) == set(exercises.questions) and all(exercises.accepted.values())
    names = [mutant.name + mutant.question for mutant in exercises.mutants]
    assert len(names) == len(set(names))
    for told in exercises.questions.values():
        assert set(told) == {"title", "section", "minutes", "difficulty", "hints"}
        assert told["hints"] and told["minutes"] > 0
        assert told["difficulty"] in notebooks.DIFFICULTY
    for case in exercises.cases:
        assert case.points > 0 and case.hint
        assert case.needs is None or case.needs in cases_of(stem, case.question)


@STEMS
def test_student_files_hold_no_solution(stem):
    exercises = SETS[stem]
    shown = json.loads(notebooks.student(exercises))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in shown) + json.dumps(packs.read(stem))
    for source in exercises.answers.values():
        body = source.split(BEGIN)[1].split(END)[0]
        for line in filter(lambda line: len(line) > 25, map(str.strip, body.splitlines())):
            assert line not in text
    hidden = [case.probe for case in exercises.cases if not case.public]
    assert not any(f"{probe}(" in text for probe in hidden)
    assert not any(case.probe in exercises.probes(True) for case in exercises.cases
                   if not case.public)  # fmt: skip
    assert "check_" not in exercises.probes(True) + exercises.probes(False)


@pytest.mark.slow
def test_generated_files_are_what_the_masters_give():
    assert not stale(ROOT, SETS), "run `python -m adversarial_lab.exercises build`"


@STEMS
def test_page_and_notebook_link_to_each_other(stem):
    page = (ROOT / "book" / f"{stem}.md").read_text(encoding="utf-8")
    box = page.partition("```{admonition} Graded exercises\n")[2].partition("\n```\n")[0]
    assert f"{{notebook}}`exercises/{stem}`" in box
    listed = re.findall(r"^- \*.+\* \((\w+), (\d+) minutes\): .+$", box, re.MULTILINE)
    told = SETS[stem].questions.values()
    assert listed == [(notebooks.DIFFICULTY[q["difficulty"]], str(q["minutes"])) for q in told]
    there = f"{here.site}book/{stem}.html" if (here := address.read()) else f"../../book/{stem}.md"
    assert notebooks.student(SETS[stem]).count(f"]({there})") == len(told)


# --- what a student sees -------------------------------------------------------------------------


def right(stem, question):
    namespace = {}
    for cell in SETS[stem].program(question):
        exec(compile(cell, "<notebook>", "exec"), namespace)
    return namespace[first_function(SETS[stem].answers[question])]


@pytest.fixture(autouse=True)
def no_tries(monkeypatch, tmp_path):
    """A folder in which nothing was tried."""
    monkeypatch.chdir(tmp_path)
    progress.forget()


@STEMS
def test_the_reference_passes_the_check_on_a_students_computer(stem, capsys):
    for question in SETS[stem].questions:
        check(f"{stem}.{question}", right(stem, question))
        said = capsys.readouterr().out
        assert "FAIL" not in said and "pass  " in said


def wrong_l2(k):
    """Answers to pgd.project_l2 that are all wrong alike, and each another text."""
    namespace = {}
    exec(f"def project_l2(z, x, eps):\n    n = {k}\n    return z", namespace)
    return namespace["project_l2"]


def test_the_check_says_more_with_every_answer_and_not_for_the_same_one(capsys):
    said = []
    for k in (0, 0, 1, 1, 2, 3):
        check("pgd.project_l2", wrong_l2(k))
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[2] == said[3]
    said = [said[k] for k in (0, 2, 4, 5)]
    assert "expected" in said[0] and "got" in said[0] and "tolerance" in said[0]
    assert "Hint" not in said[0] and "Hint: " in said[1]
    assert "Step 1" in said[2] and "Step 2" in said[3] and "Step 2" not in said[2]
    assert "counts only together with project_l2.outside" in said[0]


def test_the_check_names_a_known_mistake(capsys):
    namespace = {}
    source = next(m for m in SETS["pgd"].mutants if m.name == "always_scaled")
    exec("import torch\n" + source.source, namespace)
    for answer in (wrong_l2(0), namespace["project_l2"]):
        check("pgd.project_l2", answer)
    assert source.says in capsys.readouterr().out


def test_the_check_tells_unwritten_from_wrong(capsys):
    def project_l2(z, x, eps):
        raise NotImplementedError("project_l2")

    check("pgd.project_l2", project_l2)
    assert capsys.readouterr().out == "pgd.project_l2: not written yet.\n"


def test_tests_that_pass_show_where_a_branch_is_not_written(capsys):
    full = right("pgd", "project_l2")

    def project_l2(z, x, eps):
        if ((z - x).flatten(1).norm(dim=1) <= eps).all():
            raise NotImplementedError("inside")
        return full(z, x, eps)

    check("pgd.project_l2", project_l2)
    said = capsys.readouterr().out
    assert "pass  " in said and "FAIL" in said and "not written yet" in said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("z * 2", "returned None: is a `return` missing?"),
        ("return", "returned None: is a `return` missing?"),
        ("return 'no'", "returned a str, which the test could not use"),
        ("return z[:1, :1]", "expected shape"),
        ("return {'z': z}", "returned a dict, which the test could not use"),
    ],
)
def test_the_form_of_an_answer_has_words_of_its_own_and_never_the_hint(body, words, capsys):
    for k in range(4):
        namespace = {}
        exec(f"def project_l2(z, x, eps):\n    k = {k}\n    {body}", namespace)
        check("pgd.project_l2", namespace["project_l2"])
    said = capsys.readouterr().out
    assert words in said and "Hint" not in said and "Step" not in said


def test_a_wrong_number_of_values_is_counted(capsys):
    for value, words in (((1, 2, 3), "3 values, and the test wants 2"), (1.0, "one value, and")):
        try:
            a, b = value
        except (ValueError, TypeError) as error:
            text = "expected 2" if isinstance(value, float) else ""
            said = student._form(value, type(error)(f"{error} {text}"))
        assert words in said


def test_a_loop_that_never_ends_is_stopped(capsys, monkeypatch):
    monkeypatch.setattr(student, "SECONDS", 0.2)
    before = signal.getsignal(signal.SIGALRM)

    def project_l2(z, x, eps):
        while True:
            pass

    check("pgd.project_l2", project_l2)
    assert "stopped after 0.2 seconds" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_new_kernel_knows_what_was_tried(capsys):
    for k in range(2):
        check("pgd.project_l2", wrong_l2(k))
    progress._known.clear()  # what a kernel holds
    capsys.readouterr()
    check("pgd.project_l2", wrong_l2(2))
    assert "Step 1" in capsys.readouterr().out
    Path(progress.FILE).write_text("[")  # a damaged file is no state, and stops nobody
    check("pgd.project_l2", wrong_l2(3))
    assert "tests pass" in capsys.readouterr().out


def test_check_all_says_what_passes_and_what_is_left(capsys):
    questions = list(SETS["pgd"].questions)
    namespace = {first_function(SETS["pgd"].answers[q]): right("pgd", q) for q in questions}
    student.check_all("pgd", namespace)
    whole = capsys.readouterr().out
    assert whole.count(": passes") == len(questions) and "Nothing is left" in whole
    del namespace["project_l2"]
    namespace["pgd_step"] = lambda *_: None
    student.check_all("pgd", namespace)
    part = capsys.readouterr().out
    assert "project_l2: not defined" in part and "tests fail" in part
    assert part.rstrip().splitlines()[-1].startswith("Left: ") and "project_l2" in part
    with pytest.raises(ValueError, match="stem must be one of .*'pgd'.*got 'pdg'"):
        student.check_all("pdg", {})


def test_export_writes_what_was_run_and_the_grader_reads_it(capsys, monkeypatch):
    run = ["", "import torch", "x = 1", "def project_l2(z, x, eps): return z", "x = 1",
           'check("pgd.project_l2", project_l2)']  # fmt: skip
    shell = type("Shell", (), {"user_ns": {"In": run}})()
    monkeypatch.setitem(sys.modules, "IPython", type("I", (), {"get_ipython": lambda: shell}))
    name = student.export("pgd")
    assert name == "pgd_answers.ipynb" and "not defined" in capsys.readouterr().out
    (found,) = submissions.find(Path.cwd(), ["pgd", "cka"]).submissions
    assert (found.stem, read(found.file)) == ("pgd", ["import torch", run[3], "x = 1"])
    monkeypatch.setitem(sys.modules, "IPython", type("I", (), {"get_ipython": lambda: None}))
    with pytest.raises(RuntimeError, match="hand in your file as it is"):
        student.export("pgd")


def test_the_check_shows_the_line_of_the_students_function(capsys):
    def project_l2(z, x, eps):
        length = 1
        return z + undefined + length

    check("pgd.project_l2", project_l2)
    said = capsys.readouterr().out
    assert "NameError" in said
    assert "line 3 of project_l2: return z + undefined + length" in said


def test_the_check_refuses_what_it_does_not_know(unchecked):
    with pytest.raises(ValueError, match="begin with one of.*pgd"):
        check("nothing.project", len)
    with pytest.raises(ValueError, match="pgd. and one of.*pgd_step"):
        check("pgd.nothing", len)
    with pytest.raises(TypeError, match="must be a function, got int"):
        check("pgd.pgd_step", 3)


def test_importing_the_check_loads_nothing_heavy():
    seen = "import sys; from adversarial_lab import check; print({*sys.modules} & {%s})"
    heavy = "'numpy', 'torch', 'inspect', 'asyncio', 'jaxtyping'"
    command = [sys.executable, "-c", seen % heavy]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_the_check_is_the_same_every_time_and_leaves_the_generators_alone(capsys):
    def random_start(x, eps, generator):
        return x + eps * torch.randn(x.shape) / 3

    said = []
    for seed in (1, 2):
        progress.forget()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        check("pgd.random_start", random_start)
        said.append(capsys.readouterr().out)
        assert (torch.get_rng_state() == state).all()
    assert said[0] == said[1]


# --- comparing values ----------------------------------------------------------------------------


def test_close_shows_both_numbers_their_place_and_the_tolerance():
    with pytest.raises(AssertionError, match=r"expected 5, got 4 at \[1, 0\] .*1 of 4 .*0\.0005"):
        close(np.array([[1, 2], [4, 3]]), np.array([[1, 2], [5, 3]]), 1e-4)
    close(np.array(np.inf), np.array(np.inf))
    with pytest.raises(AssertionError):
        close(np.array(1.0), np.array(np.inf))


@pytest.mark.parametrize(
    "got, said",
    [
        ({}, "v is missing"),
        ({"v": np.zeros(2)}, r"expected shape \(3,\), got \(2,\)"),
        ({"v": np.array([0, np.nan, np.inf])}, "NaN or infinity in 2 of 3"),
        ({"v": np.ones(3)}, "wrong"),
    ],
)
def test_shape_and_nan_are_judged_before_the_check(got, said):
    def rule(out, ref):
        assert (out["v"] == 0).all(), "wrong"

    with pytest.raises(AssertionError, match=said):
        raise AssertionError(judge(rule, got, {"v": np.zeros(3)}))
    assert judge(rule, {"v": np.zeros(3)}, {"v": np.zeros(3)}) is None


@pytest.mark.parametrize("value", [True, 3, 2.5, [[1, 2]], np.arange(6.0).reshape(2, 3)[:, ::-1]])
def test_values_survive_the_way_out(value):
    back = decode_all(json.loads(json.dumps(encode_all({"v": value}))))
    assert same(back, {"v": np.asarray(value)})
    assert back["v"].shape == np.shape(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"v": 3},
        {"v": {"dtype": "O", "shape": [1], "data": "AAAAAAAAAAA="}},
        {"v": {"dtype": "<f8", "shape": [2], "data": "AAAAAAAAAAA="}},
        {"v": {"dtype": "<f8", "shape": [-1], "data": "AAAAAAAAAAA="}},
        {str(k): {"dtype": "<f8", "shape": [0], "data": ""} for k in range(40)},
    ],
)
def test_what_is_no_array_is_refused(value):
    with pytest.raises(ValueError, match="not a"):
        decode_all(value)


@pytest.mark.parametrize("value", ["text", object(), 1j, np.zeros(100_001)])
def test_only_numbers_leave_the_sandbox(value):
    with pytest.raises(TypeError, match="must be numbers"):
        encode_all({"v": value})
