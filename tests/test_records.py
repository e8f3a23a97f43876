"""Records as pages read them: found by their command and by nothing else, and told honestly."""

import hashlib
import json
import subprocess
import sys

import pytest

from adversarial_lab import records
from adversarial_lab.records import (
    ask,
    heat_map,
    made_by,
    minutes,
    missing,
    on_cpu,
    results,
    table,
    told,
)
from adversarial_lab.runs.record import accuracy
from tools.book import ROOT

RESULTS, WEIGHTS = ROOT / "book/results", ROOT / "adversarial_lab/weights"


@pytest.mark.slow
def test_the_command_is_what_the_record_answers_to(tmp_path):
    asked = ask("trades", "beta=6", scale="quick")
    made = tmp_path / f"{asked.run_id}.json"
    made.write_text('{"run_id": "this one"}')
    command = [sys.executable, *asked.command.split()[1:], "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == asked.record(tmp_path) == {"run_id": "this one"}


def test_a_record_of_another_setting_is_not_taken_for_it(tmp_path):
    (tmp_path / f"{ask('trades', 'beta=6').run_id}.json").write_text("{}")
    assert ask("trades", "beta=6.0").record(tmp_path) == {}
    assert ask("trades").record(tmp_path) == {}  # six is the usual value
    assert ask("trades", "beta=1").record(tmp_path) is None
    assert ask("trades", scale="full").record(tmp_path) is None
    assert ask("trades").record(None) is None


@pytest.mark.parametrize(
    "asked",
    [ask("trades", "beta=1"), ask("pgd"), ask("pgd", "training=standard"), ask("certified")],
    ids=lambda asked: asked.run_id,
)
def test_the_committed_records_are_found(asked):
    record = asked.record(RESULTS)
    assert record["run_id"] == asked.run_id and record["scale"] == asked.scale


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_committed_record_is_whole(path):
    """It has the name of its configuration, a table of its history, and shares inside intervals."""
    made = json.loads(path.read_text())
    text = json.dumps(made["config"], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert made["config_sha256"] == digest
    assert made["run_id"] == path.stem == f"{made['run']}-{digest[:10]}"
    assert made["seconds"] > 0 and made["hardware"] and made["versions"]["torch"]
    assert len(path.with_suffix(".csv").read_text().splitlines()) == 1 + len(made["history"])
    for metric in made["metrics"].values():
        if isinstance(metric, dict) and "low" in metric:
            assert metric["low"] <= metric["value"] + 1e-15 and metric["value"] <= metric["high"]


def test_the_weights_of_every_record_are_in_the_repository():
    """Each file is what its record measured, and none is large."""
    tracked = [*RESULTS.glob("*-??????????.safetensors"), *WEIGHTS.glob("*.safetensors")]
    assert all(file.stat().st_size < 6e6 for file in tracked)
    here = {hashlib.sha256(file.read_bytes()).hexdigest() for file in tracked}
    records = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    made = [r for r in records if "weights" in r and r["scale"] != "full"]  # there they are large
    assert made and {record["weights"]["sha256"] for record in made} <= here


@pytest.mark.parametrize("n", [1, 7, 1000, 10_000])
def test_no_rounding_puts_a_share_outside_its_interval(n):
    for right in (0, 1, n):
        metric = accuracy(right, n)
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1


def test_a_missing_record_shows_its_command():
    command = "`python -m adversarial_lab.runs robust method=pgd --scale full`"
    assert missing(ask("robust", "method=pgd", scale="full")) == f"*not yet run:* {command}"


@pytest.mark.parametrize(
    "words, scale, message",
    [
        (["nothing"], "quick", "run must be one of"),
        (["pgd"], "huge", "scale must be one of"),
        (["pgd", "colour=red"], "quick", "settings are key=value with key one of"),
    ],
)
def test_what_no_run_has_is_refused(words, scale, message):
    with pytest.raises(ValueError, match=message):
        ask(*words, scale=scale).run_id  # noqa: B018


@pytest.fixture
def no_checkout(tmp_path, monkeypatch):
    """A working directory and a package that lie in no checkout, as after `pip install`."""
    monkeypatch.setattr(records, "__file__", str(tmp_path / "site/adversarial_lab/records.py"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize("place", ["", "book", "notebooks", "notebooks/exercises", "a b/c/d"])
def test_the_folder_is_found_from_everywhere_in_a_checkout(no_checkout, monkeypatch, place):
    (no_checkout / "copy/book/results").mkdir(parents=True)
    (no_checkout / "copy" / place).mkdir(parents=True, exist_ok=True)
    assert results() is None
    monkeypatch.chdir(no_checkout / "copy" / place)
    assert results() == no_checkout / "copy/book/results"


def test_the_folder_is_found_from_the_package_unless_one_works_in_another(no_checkout, monkeypatch):
    for name in ("site", "copy"):
        (no_checkout / name / "book/results").mkdir(parents=True)
    assert results() == no_checkout / "site/book/results"
    monkeypatch.chdir(no_checkout / "copy")
    assert results() == no_checkout / "copy/book/results"


def test_a_folder_of_results_without_a_record_is_somebody_elses(no_checkout, monkeypatch):
    (no_checkout / "work/results").mkdir()
    assert results() is None
    (no_checkout / "work/results/pgd-a.json").write_text("{}")
    assert results() == no_checkout / "work/results"


def test_this_packages_own_records_are_found_from_far_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert results() == RESULTS


def test_all_records_of_a_run_are_found_and_no_others(no_checkout):
    assert made_by("pgd") == []
    folder = no_checkout / "work/results"
    folder.mkdir()
    for name in ("pgd-b", "pgd-a", "trades-a"):
        (folder / f"{name}.json").write_text(json.dumps({"run_id": name}))
    assert [record["run_id"] for record in made_by("pgd")] == ["pgd-a", "pgd-b"]


def test_a_share_is_told_with_its_interval():
    assert told(accuracy(50, 100)) == "50.0% (40.4% to 59.6%, n=100)"  # Wilson's, by hand
    assert told(accuracy(0, 10_000)).startswith("0.0% (0.0% to 0.0%, n=10,000")
    assert told(None) == "–"


def test_minutes_are_of_the_cpu_only_where_there_was_no_gpu():
    run = {"seconds": 600.0, "cpu_seconds": 60.0}
    slow, fast = run | {"hardware": "AMD EPYC, 1 thread(s)"}, run | {"hardware": "NVIDIA H200"}
    assert on_cpu(slow) and minutes(slow) == 1.0
    assert not on_cpu(fast) and minutes(fast) == 10.0


def test_a_table_is_rectangular():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    with pytest.raises(ValueError, match="rows must have 2 cells"):
        table(["a", "b"], [["1"]])


def test_a_heat_map_is_read_in_its_order():
    rows = [
        {"a": "s", "b": "r", "layer_a": p, "layer_b": q, "cka": v}
        for p, q, v in [("1", "x", 0.1), ("1", "y", 0.2), ("1", "z", 0.3)]
        + [("2", "x", 0.4), ("2", "y", 0.5), ("2", "z", 0.6)]
    ]
    values, left, right = heat_map({"history": rows}, "s", "r")
    assert (left, right) == (["1", "2"], ["x", "y", "z"])
    assert values.tolist() == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    with pytest.raises(ValueError, match=r"a, b must be one of \[\('s', 'r'\)\]"):
        heat_map({"history": rows}, "r", "s")
