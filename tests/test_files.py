import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adversarial_lab import files, training
from adversarial_lab.runs.__main__ import main
from adversarial_lab.runs.record import Job

NO_ROOM = OSError(errno.ENOSPC, "No space left on device")
TINY = "dataset=mnist-mini train_images=60 test_images=10 strong_images=2 epochs=2 steps=1".split()


def fails_with(error):
    def fail(*anything, **more):
        raise error

    return fail


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ValueError("no"), NO_ROOM])
def test_a_block_that_ends_early_leaves_the_old_file_and_nothing_else(stop, tmp_path):
    path = tmp_path / "a" / "record.json"
    with files.whole(path) as file:
        file.write_text("old")
    with pytest.raises(type(stop)), files.whole(path) as file:
        file.write_text("half of the ne")
        raise stop
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_failed_write_names_the_file_that_was_wanted(tmp_path):
    wanted = tmp_path / "w.safetensors"
    with pytest.raises(OSError, match="No space left.*w.safetensors'$"), files.whole(wanted):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(IsADirectoryError) as caught, files.naming(tmp_path):  # by safetensors
        save_file({"a": torch.zeros(1)}, tmp_path)
    assert caught.value.filename == str(tmp_path)
    other = FileNotFoundError(errno.ENOENT, "No such file", "elsewhere")
    with pytest.raises(FileNotFoundError, match="elsewhere"), files.naming(wanted):
        raise other


def test_a_folder_that_cannot_be_written_is_noticed(tmp_path, monkeypatch):
    files.check_folder("--out", tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="--out must be a folder.*got '.*file"):
            files.check_folder("--out", folder)
    monkeypatch.setattr(Path, "write_bytes", fails_with(PermissionError(13, "Permission denied")))
    with pytest.raises(ValueError, match="--out .* that can be written.*Permission denied"):
        files.check_folder("--out", tmp_path)


@pytest.mark.parametrize("place", [(training, "save_file"), (Job, "save_weights")])
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(place, tmp_path, capsys, monkeypatch):
    command = ["pgd", *TINY, "--out", str(tmp_path), "--quiet"]
    with monkeypatch.context() as patch:
        if place[0] is Job:
            patch.setattr("adversarial_lab.runs.record.save_file", fails_with(NO_ROOM))
        else:
            patch.setattr(*place, fails_with(NO_ROOM))
        assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/pgd-") and "No space left on device" in line
    assert {p.name.partition(".")[2] for p in tmp_path.iterdir()} <= {"checkpoint.safetensors"}
    assert main(command) == 0


@pytest.mark.parametrize(
    "words",
    [f"{run} {setting}" for run in ("pgd", "fgsm", "trades", "wrm", "robust", "certified", "cka")
     for setting in ("epochs=0", "epochs=-1", "eps=-0.1")]
    + ["pgd batch_size=0", "robust watch_steps=0", "cka train_batch=0", "pgd steps=0"],
)  # fmt: skip
def test_counts_below_what_can_be_are_refused_before_anything_runs(words, tmp_path, capsys):
    assert main([*words.split(), "--out", str(tmp_path / "new")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    name, value = words.split()[1].split("=")
    assert line.startswith(f"error: {name} must be >= ") and line.endswith(f"got {value}")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("below", ["", "below"])
def test_out_that_is_a_file_is_noticed_before_training(below, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["pgd", *TINY, "--out", str(tmp_path / "file" / below)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --out must be a folder")
    assert (tmp_path / "file").read_text() == "mine"
