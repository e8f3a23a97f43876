"""The grader against honest, broken and hostile classes. Needs bubblewrap, except where noted."""

import csv
import json
import os
import shutil
import socket
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from adversarial_lab.exercises import doctor, gradescope, reports, sandbox, submissions
from adversarial_lab.exercises.__main__ import main
from adversarial_lab.exercises.classroom import grade_class
from adversarial_lab.exercises.conversation import Box, Limits, NotIsolated, descendants
from adversarial_lab.exercises.files import LARGEST, LARGEST_OUTPUTS, File, Unreadable, read
from adversarial_lab.exercises.grading import Outcome, _judge, _rows
from adversarial_lab.exercises.inside.cells import new_namespace, run_cells
from adversarial_lab.exercises.reference import answer_here, from_json, prepare, to_json
from adversarial_lab.exercises.sets import load_all
from exercises import hostile

HERE = Path(__file__).parent / "exercises"
SETS = load_all(HERE / "sets")
TOY = SETS["toy"]
SECRET = "teacher's secret"
LIMITS = Limits(cell_seconds=1, case_seconds=1, cpu_seconds=3, wall_seconds=40, megabytes=200)


def isolated():
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    try:
        doctor.require("bubblewrap")
    except NotIsolated as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def sandboxed():
    why = isolated()
    if why and os.environ.get("ADVERSARIAL_LAB_REQUIRE_SANDBOX"):
        pytest.fail(why)
    if why:
        pytest.skip(why)


def rows(out):
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def graded(folder, out, **options):
    entries = grade_class(folder, SETS, SECRET, out, limits=LIMITS, **options)
    reports.write(entries, SETS, out)
    return entries


@pytest.fixture(scope="module")
def hostile_class(sandboxed, tmp_path_factory):
    """Every attack graded in one class."""
    home = tmp_path_factory.mktemp("hostile")
    canary = home / "canary"
    canary.mkdir()
    (canary / "file").write_text("CANARY-HOST")
    before = set(descendants(os.getpid()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        attacks = hostile.write(home / "class", canary, server.getsockname()[1])
        graded(home / "class", home / "out", jobs=3)
        with suppress(TimeoutError):
            pytest.fail(f"somebody reached the network: {server.accept()}")
    assert len(attacks) >= 30
    return home, attacks, before


def test_every_attack_gets_a_row_and_what_it_may_get(hostile_class):
    home, attacks, _ = hostile_class
    found = {}
    for row in rows(home / "out"):
        found.setdefault(row["student"].lstrip("'"), []).append(row)
    assert set(found) == {attack.name for attack in attacks}
    cases, wrong = {f"toy.{case.name}" for case in TOY.cases}, []
    for attack in attacks:
        own = found[attack.name]
        assert {row["test"] for row in own} == cases
        states = [row["status"] for row in own]
        points = sum(int(row["points"]) for row in own)  # an empty one, not graded, raises
        if not attack.least <= points <= attack.most or not set(attack.states) <= set(states):
            wrong.append((attack.name, points, states, own[0]["note"]))
    assert not wrong


def test_the_host_is_untouched_and_nothing_runs_on(hostile_class):
    home, _, before = hostile_class
    assert (home / "canary" / "file").read_text() == "CANARY-HOST"
    assert sorted(path.name for path in home.iterdir()) == ["canary", "class", "out"]
    for _ in range(50):
        left = set(descendants(os.getpid())) - before
        if not left:
            break
        time.sleep(0.1)
    assert not left


def test_nothing_secret_comes_out(hostile_class):
    home = hostile_class[0]
    for path in (home / "out").rglob("*"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for canary in ("CANARY-HOST", "CANARY-SOLUTION", "CANARY-PROBE", "CANARY-CHECK", SECRET):
            assert canary not in text, path


def test_statesare_harmless(hostile_class):
    home = hostile_class[0]
    pages = list((home / "out").rglob("*.html"))
    assert len({path.name for path in pages}) == len(hostile_class[1]) + 1
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text and "<img" not in text
        assert path.parent in (home / "out", home / "out" / "feedback")
    for table in (home / "out").glob("*.csv"):
        with table.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
        for line in lines:
            assert not any(cell.startswith(("=", "+", "-", "@")) for cell in line)


def test_honest_students_do_not_notice_the_others(hostile_class, tmp_path):
    home = hostile_class[0]
    (tmp_path / "class").mkdir()
    for name in ("honest", "named", "utf16"):
        shutil.copy2(home / "class" / f"{name}_toy.ipynb", tmp_path / "class")
    graded(tmp_path / "class", tmp_path / "one", jobs=1)
    graded(tmp_path / "class", tmp_path / "three", jobs=3)
    one, three = ((tmp_path / out / "grades.csv").read_bytes() for out in ("one", "three"))
    assert one == three
    among = [r for r in rows(home / "out") if r["student"] in ("honest", "named", "utf16")]
    assert rows(tmp_path / "one") == among
    assert {r["diagnosis"] for r in among if r["student"] == "named"} == {
        "", "That is three times v."
    }  # fmt: skip


def test_where_namespaces_do_not_nest_every_student_has_a_sandbox(
    hostile_class, tmp_path, monkeypatch
):
    start, home = sandbox.worker, hostile_class[0]
    monkeypatch.setattr(sandbox, "worker", lambda *a, serve: start(*a, serve=False))
    (tmp_path / "class").mkdir()
    names = ("honest", "exit_hard", "kill_self", "garbage")
    for name in names:
        shutil.copy2(home / "class" / f"{name}_toy.ipynb", tmp_path / "class")
    graded(tmp_path / "class", tmp_path / "out")
    states = {(row["student"], row["status"]) for row in rows(tmp_path / "out")}
    assert states == {(n, "tampered" if n == "garbage" else "passed") for n in names}


def test_an_interrupted_run_goes_on(sandboxed, tmp_path, monkeypatch):
    (tmp_path / "class").mkdir()
    for name in ("ada", "bob"):
        cells = (hostile.GIVEN, hostile.DOUBLE, hostile.TOTAL)
        (tmp_path / "class" / f"{name}_toy.ipynb").write_bytes(hostile.notebook(cells))
    graded(tmp_path / "class", tmp_path / "out")
    whole = (tmp_path / "out" / "grades.csv").read_bytes()
    stored = sorted((tmp_path / "out" / "results").iterdir())
    assert len(stored) == 2
    kept = stored[0].read_bytes()
    stored[1].unlink()
    graded(tmp_path / "class", tmp_path / "out")
    assert (tmp_path / "out" / "grades.csv").read_bytes() == whole

    monkeypatch.setattr(Box, "start", lambda self: pytest.fail("nothing is left to grade"))
    graded(tmp_path / "class", tmp_path / "out")
    assert stored[0].read_bytes() == kept
    assert (tmp_path / "out" / "grades.csv").read_bytes() == whole


def test_a_sandbox_that_breaks_is_our_fault(sandboxed, tmp_path, monkeypatch):
    (tmp_path / "class").mkdir()
    cells = (hostile.GIVEN, hostile.DOUBLE, hostile.TOTAL)
    (tmp_path / "class" / "ada_toy.ipynb").write_bytes(hostile.notebook(cells))
    monkeypatch.setattr("adversarial_lab.exercises.grading.TRIES", 1)

    def broken(box):
        raise NotIsolated("out of luck")

    monkeypatch.setattr("adversarial_lab.exercises.grading._start", broken)
    graded(tmp_path / "class", tmp_path / "out")
    assert {(row["points"], row["status"]) for row in rows(tmp_path / "out")} == {
        ("", "not graded")
    }
    assert not list((tmp_path / "out" / "results").iterdir())  # so that it is tried again


def test_after_an_error_a_cell_only_defines():
    namespace = new_namespace()
    cells = [
        "a = 1\nopen('nowhere')\nb = print('after')\ndef f(): pass\nimport os\neps = 0.1",
        "c = 1",
        "%pip install x\n!ls\nprint?\nd = 1",
        "%%bash\nrm -rf /",
        "%%time\ne = 1",
    ]
    states = run_cells(cells, namespace, 5.0)
    assert [r["state"] for r in states] == ["error", "ok", "ok", "ok", "ok"]
    assert states[0]["line"] == 2 and "FileNotFoundError" in states[0]["error"]
    assert {"a", "f", "os", "eps", "c", "d", "e"} <= set(namespace) and "b" not in namespace


@pytest.mark.parametrize(
    "cell",
    [
        "!pip install a \\\n    b \\\n    --quiet\ndef f(): return 1",
        "%pip install a \\\n    b\ndef f(): return 1",
        "files = !ls *.py\ndef f(): return 1",
        "a, b = !ls\ndef f(): return 1",
        "self.x[0] = %timeit -o sum(range(10))\ndef f(): return 1",
        "t = %timeit -o -n 1 \\\n  sum([1])\ndef f(): return 1",
        "%%prun -q\ndef f(): return 1",
        "%%debug\ndef f(): return 1",
        "%%capture out\ndef f(): return 1",
        "\n%%time\ndef f(): return 1",
        "if True:\n    !ls\n    %matplotlib inline\ndef f(): return 1",
        "sum?\n?sum\nsum??\ndef f(): return 1",
        "!!ls\ndef f(): return 1",
        "get_ipython().run_line_magic('matplotlib', 'inline')\ndef f(): return 1",
        "out = get_ipython().getoutput('ls')\nfor line in out: print(line)\ndef f(): return 1",
        "from __future__ import annotations\ndef f(x: Absent = None) -> Absent: return 1",
        "a = 7 % 3\na %= 2\nb = a != 3\n!ls\nassert b\ndef f(): return 1",
        "def g(): return 1\n%time f = g\nassert f() == 1",
        'text = """\n%pip is a magic\n!ls too\n"""\nassert "!ls" in text\ndef f(): return 1',
    ],
)
def test_ipython_in_a_cell_loses_no_answer(cell):
    namespace = new_namespace()
    (report,) = run_cells([cell], namespace, 5)
    assert report["state"] == "ok" or cell.startswith(("self", "a, b")), report
    assert namespace["f"]() == 1


def test_future_imports_hold_for_the_cells_that_follow():
    namespace = new_namespace()
    cells = ["from __future__ import annotations", "def f(x: Absent): return 1"]
    assert [r["state"] for r in run_cells(cells, namespace, 5)] == ["ok", "ok"]
    assert [r["state"] for r in run_cells(cells[1:], new_namespace(), 5)] == ["error"]


def test_the_line_of_an_error_is_the_notebooks_after_magics_too():
    cell = "!pip install a \\\n    b\n\n%time 1\n1 / 0"
    (report,) = run_cells([cell], new_namespace(), 5)
    assert report["line"] == 5 and "ZeroDivisionError" in report["error"]


def test_the_notebooks_own_set_up_runs_in_the_grader(tmp_path):
    """As it is handed out, whatever its other cells do."""
    root = Path(__file__).parents[1]
    handed = json.loads((root / "notebooks/exercises/gaussian_risk.ipynb").read_text())
    first = next(c for c in handed["cells"] if c["cell_type"] == "code")
    handed["cells"] = [first, {"cell_type": "code", "source": "print('after', check)"}]
    (tmp_path / "class").mkdir()
    (tmp_path / "class/ada_toy.ipynb").write_text(json.dumps(handed))
    (entry,) = graded(tmp_path / "class", tmp_path / "out", sandbox="trusted")
    assert entry.graded.cells == [] and "after" in entry.graded.printed


def test_a_check_that_fails_is_our_fault():
    reference = prepare(TOY, "s", answer_here)

    def faulty(out, ref):
        raise TypeError

    broken = replace(TOY, checks={**TOY.checks, "total.seen": faulty})
    outcomes = {name: Outcome("passed", values=v) for name, v in reference.expected.items()}
    for case in broken.cases:
        _judge(broken, reference, case, outcomes[case.name])
    found = {row.test: row for row in _rows(broken, reference, outcomes)}
    assert found["total.seen"].points is None and found["total.seen"].status == "not graded"
    assert found["double.seen"].points == 2


def test_a_reference_survives_the_package():
    reference = prepare(TOY, "s", answer_here)
    assert to_json(from_json(json.loads(json.dumps(to_json(reference))))) == to_json(reference)


def test_the_autograder_package_grades(sandboxed, tmp_path):
    (tmp_path / "exercises").symlink_to(HERE / "sets")
    data = gradescope.package(tmp_path, TOY, prepare(TOY, SECRET, answer_here))
    (tmp_path / "toy.zip").write_bytes(data)
    home = tmp_path / "autograder"
    with zipfile.ZipFile(tmp_path / "toy.zip") as archive:
        archive.extractall(home / "source")
        assert archive.getinfo("run_autograder").external_attr >> 16 == 0o755
    (home / "submission").mkdir()
    cells = (hostile.GIVEN, "def double(v): return 3 * v", hostile.TOTAL)
    (home / "submission" / "any.ipynb").write_bytes(hostile.notebook(cells))
    result = gradescope.run(home, sandbox="bubblewrap")
    assert result["score"] == 2
    assert [test["score"] for test in result["tests"]] == [0, 0, 1, 1]
    assert "three times" in result["tests"][0]["output"]
    (home / "submission" / "any.ipynb").write_text("{")
    assert gradescope.run(home, sandbox="bubblewrap")["score"] == 0


def test_the_doctor_finds_every_door_closed(sandboxed, capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.count("ok:   cannot") == len(doctor.ATTEMPTS) and "OPEN" not in said


def test_the_doctor_finds_a_door_left_open(sandboxed, monkeypatch):
    def careless(modules):
        return [word for word in sandbox.bubblewrap(modules) if word != "--unshare-net"]

    monkeypatch.setitem(sandbox.SANDBOXES, "bubblewrap", careless)
    assert [f.attempt for f in doctor.examine() if not f.stopped] == ["reach the network"]
    with pytest.raises(NotIsolated, match="does not isolate here; a student could: reach the net"):
        doctor.require("bubblewrap")


def test_the_doctor_attacks_nothing_that_is_not_a_sandbox():
    with pytest.raises(ValueError, match="must isolate to be examined"):
        doctor.examine("trusted")


def test_trusted_code_needs_no_sandbox(tmp_path):
    (tmp_path / "class").mkdir()
    cells = ("import numpy as np", hostile.DOUBLE, hostile.TOTAL)
    (tmp_path / "class" / "ada_toy.ipynb").write_bytes(hostile.notebook(cells))
    graded(tmp_path / "class", tmp_path / "out", sandbox="trusted")
    assert {row["status"] for row in rows(tmp_path / "out")} == {"passed"}


def test_without_isolation_grading_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--root", str(HERE), "grade", str(tmp_path), "--seed", "s"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "exercises").symlink_to(HERE / "sets")
    assert main(["--root", str(tmp_path / "root"), "grade", str(tmp_path), "--seed", "s"]) == 1
    assert "apt-get install bubblewrap" in capsys.readouterr().err


@pytest.mark.parametrize(
    "system, said, advised",
    [
        ("Darwin", "", "container runtime"),
        ("Windows", "", "container runtime"),
        ("Linux", "bwrap: setting up uid map: Permission denied", "apparmor_restrict"),
        ("Linux", "ModuleNotFoundError: No module named 'torch'", "readable for everybody"),
        ("Linux", "anything else", "--trusted"),
    ],
)
def test_the_doctor_says_what_to_do(system, said, advised, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert advised in doctor.advice(said)


def test_the_sandbox_command_opens_nothing_else():
    command = sandbox.bubblewrap(["numpy"])
    bound = {command[k + 1] for k, word in enumerate(command) if word == "--ro-bind"}
    home, checkout = Path.home(), HERE.parents[1]
    for place in map(Path, bound - {str(sandbox.INSIDE)}):
        assert place not in (home, checkout, *home.parents, *checkout.parents)
        assert checkout not in place.parents or place.name in (".venv", "venv")
    assert "--bind" not in command and "--unshare-net" in command and "--clearenv" in command
    docker = sandbox.SANDBOXES["docker"](["numpy"])
    assert {"--network=none", "--read-only", "--cap-drop=ALL", "--user=65534"} <= set(docker)


def test_an_unknown_sandbox_is_refused():
    with pytest.raises(ValueError, match="sandbox must be one of.*bubblewrap.*got 'jail'"):
        Box("jail", ["numpy"], LIMITS)


@pytest.mark.parametrize(
    "path, student, name",
    [
        ("ada_pgd.ipynb", "ada", ""),
        ("ada.ipynb", "ada", ""),
        ("ada/anything.ipynb", "ada", ""),
        ("Ada Lovelace_123_assignsubmission_file/x.ipynb", "123", "Ada Lovelace"),
        ("lovelaceada_12345_67890_x.ipynb", "12345", "lovelaceada"),
        ("lovelaceada_LATE_12345_67890_x.ipynb", "12345", "lovelaceada"),
        ("submission_98765/x.ipynb", "98765", ""),
    ],
)
def test_a_student_is_known_from_where_the_file_lies(path, student, name):
    file = File(PurePosixPath(path), Path(path))
    assert submissions.who(file, ["pgd", "trades"]) == (student, name)


def laid(root, *places, text=None):
    """Files of the toy set, each a second younger than the one before."""
    for k, place in enumerate(places):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hostile.notebook((text or "1",)))
        os.utime(path, (k, k))
    return root


def found(root, stems=("toy", "trades")):
    """(student, file, stem) of every submission, and (file, why) of what was skipped."""
    whole = submissions.find(root, list(stems))
    graded = [(s.student, str(s.file.place) if s.file else None, s.stem) for s in whole.submissions]
    return graded, {str(f.place): why for f, why in whole.skipped}


def test_of_several_files_the_newest_is_graded_and_the_set_is_told_by_the_notebook(tmp_path):
    laid(tmp_path, "ada/old.ipynb", "ada/new.ipynb")
    (tmp_path / "ada" / "trades.ipynb").write_text("{")
    (tmp_path / "bob.ipynb").write_text("{")
    whole = submissions.find(tmp_path, ["toy", "trades"])
    assert [(s.student, s.file.name, s.stem, len(s.others)) for s in whole.submissions] == [
        ("ada", "new.ipynb", "toy", 1),
        ("ada", "trades.ipynb", "trades", 0),
        ("bob", "bob.ipynb", None, 0),
    ]
    assert whole.submissions[0].told == (
        "2 files: ada/new.ipynb was graded because it is the newest, and not ada/old.ipynb."
    )


@pytest.mark.parametrize(
    ("places", "students"),
    [
        (["export/ada/x.ipynb", "export/bob/x.ipynb"], ["ada", "bob"]),
        (["a/b/ada/x.ipynb", "a/b/bob/x.ipynb"], ["ada", "bob"]),
        (["assignment_1_export/submission_98/x.ipynb", "assignment_1_export/submission_99/x.ipynb"],
         ["98", "99"]),
        (["hw/lovelaceada_12_34_x.ipynb", "hw/hopper_late_13_35_x.ipynb"], ["12", "13"]),
        (["hw/ada_toy.ipynb", "hw/bob_toy.ipynb"], ["ada", "bob"]),
        (["ada/x.ipynb"], ["ada"]),  # one student is no wrapper
        (["ada/toy/x.ipynb", "ada/trades/x.ipynb"], ["ada"]),
        (["submission_98/work/x.ipynb", "submission_98/rest/y.ipynb"], ["98"]),
        (["ada/work/x.ipynb", "bob/work/x.ipynb"], ["ada", "bob"]),
    ],
)  # fmt: skip
def test_a_folder_around_the_class_is_no_student(places, students, tmp_path):
    whole = submissions.find(laid(tmp_path, *places), ["toy", "trades"])
    assert sorted({s.student for s in whole.submissions}) == students


@pytest.mark.parametrize("about", ["grades.csv", "metadata.yml", "__MACOSX/export/._x.ipynb"])
def test_a_platforms_own_files_are_told_and_change_nothing(about, tmp_path):
    laid(tmp_path, "export/ada/x.ipynb", "export/bob/x.ipynb", about)
    graded, skipped = found(tmp_path)
    assert [student for student, *_ in graded] == ["ada", "bob"]
    assert all(why for why in skipped.values())


@pytest.mark.parametrize(
    "name",
    [
        "O'Brienmary_12_34_toy.ipynb",
        "müllerjörg_12_34_toy.ipynb",
        "李雷_12_34_toy.ipynb",
        "r2d2_12_34_toy.ipynb",
        "smith-jones_LATE_12_34_toy (1).ipynb",
    ],
)
def test_canvas_names_as_people_are_called(name, tmp_path):
    assert found(laid(tmp_path, name))[0] == [("12", name, "toy")]


@pytest.mark.parametrize(
    "name",
    ["ada_toy (1).ipynb", "ada_toy(2).ipynb", "ada_toy - Copy.ipynb", "ada_toy-Copy1.ipynb",
     "ada-toy.ipynb", "ada toy.ipynb", "ada_toy.ipynb.txt", "ada_toy.IPYNB"],
)  # fmt: skip
def test_a_second_download_is_the_same_students(name, tmp_path):
    assert found(laid(tmp_path, name))[0] == [("ada", name, "toy")]


def test_names_that_are_not_utf_8_are_names(tmp_path):
    raw = os.fsencode(tmp_path) + b"/m\xfcller_toy.ipynb"
    Path(os.fsdecode(raw)).write_bytes(hostile.notebook(("1",)))
    graded, _ = found(tmp_path)
    assert graded == [("müller", "müller_toy.ipynb", "toy")]
    (tmp_path / "mu\u0308ller_trades.ipynb").write_text("{")  # as macOS writes an umlaut
    assert [row[0] for row in found(tmp_path)[0]] == ["müller", "müller"]


@pytest.mark.parametrize("stems", [("toy",), ("toy", "trades")])
def test_a_helper_or_a_shadow_never_takes_the_place_of_the_notebook(stems, tmp_path):
    """Whatever their age and name."""
    laid(tmp_path, "ada/toy.ipynb", "ada/a_helper.py", "ada/._toy.ipynb", "ada/utils.py",
         "ada/.ipynb_checkpoints/toy-checkpoint.ipynb")  # fmt: skip
    graded, skipped = found(tmp_path, stems)
    assert graded == [("ada", "ada/toy.ipynb", "toy")]
    assert len(skipped) == 4 and all(skipped.values())


def test_a_file_that_cannot_be_read_does_not_take_the_place_of_one_that_can(tmp_path):
    laid(tmp_path, "ada/toy.ipynb")
    (tmp_path / "ada/toy (1).ipynb").write_text("{")
    (submission,) = submissions.find(tmp_path, ["toy"]).submissions
    assert submission.file.name == "toy.ipynb" and "because it can be read" in submission.told


@pytest.mark.parametrize("name", ["work.pdf", "notes.docx", "toy.ipynb.zip.part", "rest.tar.gz"])
def test_a_student_without_a_notebook_has_a_row_that_says_so(name, tmp_path):
    laid(tmp_path, "ada/toy.ipynb", f"bob/{name}")
    (tmp_path / "eve").mkdir()
    whole = submissions.find(tmp_path, ["toy", "trades"]).submissions
    assert [(s.student, s.stem) for s in whole] == [("ada", "toy"), ("bob", None), ("eve", None)]
    assert whole[1].why == f"no notebook: {name}"


def zipped(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_is_opened_like_a_folder(tmp_path):
    one = {"hw/toy.ipynb": hostile.notebook(("1",)), "hw/plot.png": b"x", "../../evil.py": b"x"}
    zipped(tmp_path / "class/ada/work.zip", one)
    zipped(tmp_path / "class/bob.zip", {"toy.ipynb": hostile.notebook(("2",))})
    graded, skipped = found(tmp_path / "class")
    assert graded == [
        ("ada", "ada/work.zip/hw/toy.ipynb", "toy"),
        ("bob", "bob.zip/toy.ipynb", "toy"),
    ]
    assert set(skipped) == {"ada/work.zip/hw/plot.png", "ada/work.zip/evil.py"}
    whole = submissions.find(tmp_path / "class", ["toy"]).submissions
    assert [read(s.file) for s in whole] == [["1"], ["2"]]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["bob.zip", "work.zip"]


def test_a_class_may_be_one_zip_with_names_in_latin_1(tmp_path):
    names = ("export/mXller/toy.ipynb", "export/ada/toy.ipynb")
    path = zipped(tmp_path / "class.zip", {name: hostile.notebook(("1",)) for name in names})
    path.write_bytes(path.read_bytes().replace(b"mXller", b"m\xfcller"))
    assert [student for student, *_ in found(path)[0]] == ["ada", "müller"]
    assert all(read(s.file) for s in submissions.find(path, ["toy"]).submissions)


def test_a_zip_that_unpacks_to_more_than_is_read_is_refused(tmp_path):
    bomb = zipped(tmp_path / "ada/toy.zip", {"toy.ipynb": b" " * (LARGEST_OUTPUTS + 1)})
    assert bomb.stat().st_size < 2**20
    (submission,) = submissions.find(tmp_path, ["toy"]).submissions
    with pytest.raises(Unreadable, match="over 200 MB"):
        read(submission.file)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x03\x04" + b"0" * 99])
def test_a_zip_that_is_none_is_a_row(data, tmp_path):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada/toy.zip").write_bytes(data)
    (submission,) = submissions.find(tmp_path, ["toy"]).submissions
    assert submission.file is None and submission.why == "no notebook: toy.zip"


def test_outputs_of_any_size_are_taken_out_first(tmp_path):
    book = json.loads(hostile.notebook(("answer = 1",)))
    book["cells"][-1]["outputs"] = [{"output_type": "stream", "text": "x" * (LARGEST + 1)}]
    (tmp_path / "ada_toy.ipynb").write_text(json.dumps(book))
    (submission,) = submissions.find(tmp_path, ["toy"]).submissions
    assert read(submission.file) == ["answer = 1"]


def test_a_notebook_of_format_3_is_read(tmp_path):
    cells = [{"cell_type": "code", "input": ["a = 1\n", "b = 2"]}, {"cell_type": "markdown"}]
    (tmp_path / "toy.ipynb").write_text(
        json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]})
    )
    (submission,) = submissions.find(tmp_path, ["toy"]).submissions
    assert read(submission.file) == ["a = 1\nb = 2"]


def test_the_best_of_several_files_if_that_is_asked_for(tmp_path):
    """And where the newest is blank, the note says so."""
    right = "def double(v):\n    return 2 * v"
    for k, (name, cell) in enumerate((("good", right), ("blank", hostile.GIVEN))):
        path = tmp_path / f"class/ada/{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hostile.notebook((hostile.GIVEN, cell)))
        os.utime(path, (k, k))
    for take, name, reason in (
        ("newest", "blank", "it is the newest"),
        ("best", "good", "it has most points"),
    ):
        (entry,) = graded(tmp_path / "class", tmp_path / take, sandbox="trusted", take=take)
        assert entry.submission.file.name == f"{name}.ipynb" and reason in entry.graded.note
    best = sum(row.points for row in entry.graded.rows)
    assert best > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["EMPTY", "--seed", "s"], "holds none"),
        (["NONE", "--seed", "s"], "must be a folder or a .zip"),
        (["CLASS", "--seed", ""], "--seed must not be empty"),
        (["CLASS", "--seed", "s", "-j", "0"], "--jobs must be >= 1, got 0"),
        (["CLASS", "--seed", "s", "-o", "CLASS/ada_toy.ipynb"], "--out must be a folder"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_a_status(arguments, message, tmp_path, capsys):
    laid(tmp_path / "CLASS", "ada_toy.ipynb")
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "exercises").symlink_to(HERE / "sets")
    words = [str(tmp_path / w) if w.isupper() or "/" in w else w for w in arguments]
    out = [] if "-o" in words else ["-o", str(tmp_path / "out")]
    assert main(["--root", str(tmp_path), "grade", *words, "--trusted", *out]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_folder_that_was_used_before_keeps_no_pages_of_others(tmp_path):
    laid(tmp_path / "a", "ada_toy.ipynb")
    laid(tmp_path / "b", "bob_toy.ipynb")
    for name in "ab":
        graded(tmp_path / name, tmp_path / "out", sandbox="trusted")
    (page,) = (tmp_path / "out/feedback").iterdir()
    assert (
        page.name.startswith("bob") and [r["student"] for r in rows(tmp_path / "out")][0] == "bob"
    )


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "a\x00=1\r\n"])
def test_no_cell_is_a_formula(text):
    written = reports.cell(text)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r")) and "\n" not in written


def test_students_with_similar_names_have_their_own_pages():
    names = ["a/b", "a_b", "a.b", "..", ".", "", "ä", "\ud800", "x" * 300, "A_B"]
    files = [reports.file_name(name) for name in names]
    assert len(set(map(str.lower, files))) == len(names)
    assert all("/" not in file and not file.startswith(".") for file in files)
