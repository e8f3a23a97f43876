import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pooch
import pytest
import torch
from scipy.stats import binomtest

from adversarial_lab.address import Address
from adversarial_lab.runs import RUNS, weights
from adversarial_lab.runs.__main__ import configure, main
from adversarial_lab.runs.pgd import Config
from adversarial_lab.runs.record import Job, accuracy, write_whole

TINY = (
    "dataset=mnist-mini train_images=300 test_images=60 strong_images=20 epochs=3 steps=2".split()
)


def run(out, *settings):
    return main(["pgd", *TINY, *settings, "--out", str(out), "--quiet"])


def last_line(text):
    return json.loads(text.strip().splitlines()[-1])


def test_a_run_prints_its_record_last_and_saves_it_whole(tmp_path, capsys):
    assert run(tmp_path) == 0
    record = last_line(capsys.readouterr().out)
    saved = json.loads((tmp_path / f"{record['run_id']}.json").read_text())
    assert saved == record
    assert record["config"]["dataset"] == record["data"]["name"] == "mnist-mini"
    assert record["metrics"]["pgd-40"]["n"] == 60 and record["metrics"]["pgd-100x10"]["n"] == 20
    assert {"python", "torch", "numpy"} <= set(record["versions"]) and record["hardware"]
    assert record["seconds"] > 0 and record["cpu_seconds"] > 0
    names = {p.name.removeprefix(record["run_id"]) for p in tmp_path.iterdir()}
    assert names == {".json", ".csv", ".safetensors"}  # no checkpoint, nothing half written
    rows = (tmp_path / f"{record['run_id']}.csv").read_text().splitlines()
    assert rows[0] == "epoch,loss" and len(rows) == 4


def test_a_finished_run_is_not_computed_again_unless_asked(tmp_path, capsys):
    run(tmp_path)
    first = last_line(capsys.readouterr().out)
    file = tmp_path / f"{first['run_id']}.json"
    file.write_text(json.dumps({**first, "metrics": "marked"}))
    run(tmp_path)
    shown = capsys.readouterr()
    assert last_line(shown.out)["metrics"] == "marked" and "has it already; --again" in shown.err
    run(tmp_path, "--again")
    again = last_line(capsys.readouterr().out)
    assert json.loads(file.read_text()) == again
    assert all(again[key] == first[key] for key in ("metrics", "history", "weights"))


def test_the_run_id_depends_on_every_setting_and_on_nothing_else(tmp_path):
    ids = {Job("pgd", "quick", c, tmp_path).run_id for c in (Config(), Config(seed=1), Config())}
    assert len(ids) == 2


def test_standard_training_is_a_setting(tmp_path, capsys):
    run(tmp_path, "training=standard", "epochs=1")
    assert last_line(capsys.readouterr().out)["config"]["training"] == "standard"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pgd", "epoch=3"], r"key one of \['dataset'.*got 'epoch=3'"),
        (["pgd", "epochs"], "settings are key=value"),
        (["pgd", "epochs=many"], "epochs must be of type int, got 'many'"),
        (["pgd", "training=fast"], r"training must be one of \('pgd', 'standard'\), got 'fast'"),
        (["pgd", "dataset=cifar"], "name must be one of .*'mnist-mini'.*got 'cifar'"),
        (["pgd", "--scale", "huge"], "scale must be one of .*'quick'.*got 'huge'"),
    ],
)
def test_bad_settings_are_refused(words, message, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir())


def test_settings_are_read_as_their_type():
    config = configure(Config(), ["eps=0.1", "epochs=2", "train_images=none", "dataset=mnist"])
    assert (config.eps, config.epochs, config.train_images, config.dataset) == (
        0.1,
        2,
        None,
        "mnist",
    )


def test_list_shows_every_run_with_scale_and_cost(capsys):
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    for name, module in RUNS.items():
        for scale in module.SCALES:
            assert f"{name} --scale {scale}: {module.COST[scale]}" in shown


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path, blow, capsys):
    words = [*TINY, "epochs=40"]
    command = [sys.executable, "-m", "adversarial_lab.runs", "pgd", *words]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path), "--quiet"],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*.checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(blow)
    _, error = process.communicate(timeout=60)
    assert process.returncode == (-9 if blow == signal.SIGKILL else 130), error
    assert (b"goes on from the last epoch" in error) == (blow == signal.SIGINT)
    assert list(tmp_path.glob("*.checkpoint.safetensors")) and not list(tmp_path.glob("*.json"))
    run(tmp_path, "epochs=40")
    resumed = last_line(capsys.readouterr().out)
    run(tmp_path / "whole", "epochs=40")
    whole = last_line(capsys.readouterr().out)
    assert resumed["history"] == whole["history"] and resumed["weights"] == whole["weights"]


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (917, 1000), (1, 3)])
def test_intervals_are_wilson(right, n):
    low, high = binomtest(right, n).proportion_ci(method="wilson")
    ours = accuracy(right, n)
    assert (ours["low"], ours["high"]) == pytest.approx((low, high), abs=1e-12)
    assert ours["value"] == right / n and ours["n"] == n


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a" / "record.json"
    write_whole(file, "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_whole(file, "new")
    assert file.read_text() == "old"


def test_weights_are_saved_in_half_precision_and_evaluated_as_saved(tmp_path):
    model = torch.nn.Linear(3, 2)
    job = Job("pgd", "quick", Config(), tmp_path)
    kept = job.save_weights(model)
    assert torch.equal(kept.weight, kept.weight.half().float())


def described(folder, content):
    """A record whose weights' file holds `content`, and the path of that file."""
    digest = hashlib.sha256(content).hexdigest()
    made = {"run": "pgd", "scale": "full", "config": {"seed": 1}}
    made["weights"] = {"file": "pgd-1.safetensors", "sha256": digest}
    (folder / "pgd-1.json").write_text(json.dumps(made))
    return folder / "pgd-1.safetensors", digest


def test_weights_count_only_if_they_are_those_of_their_record(tmp_path, monkeypatch):
    path, _ = described(tmp_path, b"right")
    path.write_bytes(b"right")
    assert weights.find(path) == path
    path.write_bytes(b"wrong")
    with pytest.raises(ValueError, match="not the weights that were measured"):
        weights.find(path)
    path.unlink()
    monkeypatch.setattr(weights.address, "read", Address)
    with pytest.raises(FileNotFoundError, match="no release that holds them.*pgd seed=1 --scale"):
        weights.find(path)
    with pytest.raises(FileNotFoundError, match="there is no .*other.safetensors"):
        weights.find(tmp_path / "other.safetensors")


def test_weights_that_are_not_in_git_come_from_the_release(tmp_path, monkeypatch):
    path, digest = described(tmp_path, b"right")
    here = Address("a/b", tag="v1.0.0", site="https://a.github.io/b/")
    monkeypatch.setattr(weights.address, "read", lambda: here)
    asked = []

    def retrieve(address, known_hash, *, fname, path):
        asked.append((address, known_hash, fname))
        return str(tmp_path / "cached")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert weights.find(path) == tmp_path / "cached"
    address = "https://github.com/a/b/releases/download/v1.0.0/pgd-1.safetensors"
    assert asked == [(address, f"sha256:{digest}", "pgd-1.safetensors")]


def test_where_the_release_lacks_the_weights_it_says_how_to_make_them(tmp_path, monkeypatch):
    path, _ = described(tmp_path, b"right")
    here = Address("a/b", site="https://a.github.io/b/")
    monkeypatch.setattr(weights.address, "read", lambda: here)

    def retrieve(address, *_, **__):
        raise OSError(f"404 for {address}")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    latest = "https://github.com/a/b/releases/latest/download/pgd-1.safetensors"
    with pytest.raises(FileNotFoundError, match=f"pgd seed=1 --scale full.*404 for {latest}"):
        weights.find(path)
