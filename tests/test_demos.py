"""The classroom notebooks: run on a CPU as a class without a GPU would, and what they lean on."""

import os
import re
import sys
from types import ModuleType

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

from adversarial_lab import data, demos, nets
from adversarial_lab.pgd import cross_entropy, pgd
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import attacking
from tools.book import ROOT
from tools.export_notebooks import NOTEBOOKS, export
from tools.export_notebooks import demos as sources

STEMS = [source.stem for source in sources()]
BOOK_ONLY = {"ADVERSARIAL_LAB_STATIC", "ADVERSARIAL_LAB_DATA"}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """stem -> all that a run of the notebook printed, on a CPU and outside the checkout."""
    done = {}

    def run(stem):
        if stem not in done:
            here = {"metadata": {"path": tmp_path_factory.mktemp(stem)}}
            notebook = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4)
            client = NotebookClient(notebook, timeout=600, startup_timeout=600, resources=here)
            kept = {name: value for name, value in os.environ.items() if name not in BOOK_ONLY}
            client.execute(env=kept | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""})
            outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
            assert not [out for out in outputs if out.get("name") == "stderr"]
            done[stem] = "".join(out.get("text", "") for out in outputs)
        return done[stem]

    return run


def test_there_are_three():
    assert STEMS == ["demo_attack", "demo_masked_or_robust", "demo_robust_training"]


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_is_what_its_source_gives_and_asks_colab_for_a_gpu(stem):
    text = (NOTEBOOKS / f"{stem}.ipynb").read_text(encoding="utf-8")
    assert text == export(ROOT / f"demos/{stem}.md"), "run `make book`"
    metadata = nbformat.reads(text, as_version=4).metadata
    assert metadata["accelerator"] == "GPU" and metadata["colab"]["gpuType"] == "T4"


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_ends_with_a_folded_note_for_the_instructor(stem):
    note = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells[-1].source
    assert note.startswith("<details><summary>For the instructor")
    assert all(word in note.lower() for word in ("**timing.**", "ask", "**if something goes wrong"))


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_without_a_gpu_a_notebook_says_what_is_reduced(stem, printed):
    assert "On cpu" in printed(stem)
    assert "Reduced, because there is no GPU" in printed(stem)


@pytest.mark.slow
def test_the_attack_breaks_the_standard_network_and_not_the_robust_one(printed):
    said = printed("demo_attack")
    shares = {
        name: [float(v) for v in found]
        for name, *found in re.findall(r"(\w+) (\d+)% clean, (\d+)% at 0.3", said)
    }
    assert shares["standard"][0] >= 95 and shares["standard"][1] <= 5
    assert shares["robust"][0] >= 90 and shares["robust"][1] >= 80
    assert "8 digits to attack, first: test digit 0, a 7." in said


@pytest.mark.parametrize("name, few, many", [("mnist-standard", 90, 100), ("mnist-pgd", 0, 5)])
def test_the_usual_network_fails_surely_as_the_instructor_says(name, few, many, rng):
    x, y = data.load("mnist-mini", "test", 100)
    model, threat = nets.shipped(name), ThreatModel(norm="linf", eps=0.14)
    with attacking(model):
        z = pgd(lambda z: cross_entropy(model(z), y), x, threat, steps=40, rng=rng)
        sure, said = model(z).softmax(1).max(1)
    wrong = said != y
    assert few <= wrong.sum() <= many
    assert not few or (sure[wrong] > 0.9).double().mean() > 0.9


@pytest.mark.slow
def test_the_report_tells_the_masked_from_the_robust(printed):
    said = printed("demo_masked_or_robust")
    found = dict(re.findall(r"^([A-D]): (No|\d+) signs? of masking", said, re.MULTILINE))
    assert found["A"] == found["D"] == "No"
    assert int(found["B"]) > 0 and int(found["C"]) > 0
    claimed, left = (
        dict(re.findall(r"([A-D]) (\d+)%", re.search(rf"{line}.*", said)[0]))
        for line in ("Accuracy under PGD-20", "Left after")
    )
    assert min(int(v) for v in claimed.values()) >= 80, "the vote would be too easy"
    assert int(left["B"]) < 50 < int(left["A"]) and int(left["C"]) < 50 < int(left["D"])
    assert "The class was right about 2 of 4 networks." in said


@pytest.mark.slow
def test_the_training_ends_with_a_network_that_stands_where_the_usual_one_falls(printed):
    said = printed("demo_robust_training")
    here, usual = (float(v) for v in re.findall(r": ([\d.]+)% \(95 % interval", said))
    assert here > usual + 30
    assert "8 epochs of 20 batches." in said  # by the clock on a GPU only


def photograph(digit, tmp_path, *, paper=235, ink=40, size=300, name="photo.png"):
    """A digit of MNIST as a large photo: dark ink, off centre, under uneven light."""
    large = Image.fromarray((digit.numpy() * 255).astype(np.uint8)).resize((size, size))
    share = np.asarray(large, float) / 255
    scene = np.full((size + 100, size + 220), float(paper))
    scene[70 : 70 + size, 20 : 20 + size] += (ink - paper) * share
    scene += np.linspace(-12, 12, scene.shape[1])
    Image.fromarray(scene.clip(0, 255).astype(np.uint8)).save(tmp_path / name)
    return tmp_path / name


def test_a_photo_becomes_a_digit_that_the_network_reads(tmp_path):
    x, y = data.load("mnist-mini", "test", 20)
    read = [demos.photo_as_digit(photograph(digit[0], tmp_path)) for digit in x]
    found = torch.cat(read)
    assert found.shape == x.shape and found.min() == 0 and found.max() == 1
    hits = nets.shipped("mnist-standard")(found).argmax(1) == y
    assert hits.sum() >= 19


def test_chalk_on_a_blackboard_is_the_same_digit(tmp_path):
    digit = data.load("mnist-mini", "test", 1).x[0, 0]
    ink = demos.photo_as_digit(photograph(digit, tmp_path))
    chalk = demos.photo_as_digit(photograph(digit, tmp_path, paper=40, ink=235))
    assert (ink - chalk).abs().mean() < 0.02


@pytest.mark.parametrize("shape", [(40, 40), (10, 80), (80, 10), (80, 80)])
def test_a_stroke_is_centred_by_mass_and_twenty_pixels_long(shape, tmp_path):
    paper = np.full((200, 200), 250, np.uint8)
    whole = shape != (80, 80)  # the last is a triangle: its mass is not in the middle of its box
    ink = np.ones(shape, bool) if whole else np.tri(80, dtype=bool)
    paper[30 : 30 + shape[0], 90 : 90 + shape[1]][ink] = 0
    Image.fromarray(paper).save(tmp_path / "stroke.png")
    image = demos.photo_as_digit(tmp_path / "stroke.png")[0, 0]
    ink = image > 0.5
    assert max(int(ink.any(0).sum()), int(ink.any(1).sum())) == 20
    for axis in (0, 1):
        mass = image.sum(axis)
        assert (mass * (torch.arange(28) + 0.5)).sum() / mass.sum() == pytest.approx(14, abs=0.51)


def test_a_photo_without_a_digit_is_refused(tmp_path):
    Image.new("L", (50, 50), 200).save(tmp_path / "blank.png")
    with pytest.raises(ValueError, match="blank.png has no contrast"):
        demos.photo_as_digit(tmp_path / "blank.png")
    with pytest.raises(FileNotFoundError, match="no file"):
        demos.photo_as_digit(tmp_path / "absent.png")


def test_without_colab_the_upload_says_what_to_do(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", None)
    assert demos.upload() is None
    assert "OWN_IMAGE" in capsys.readouterr().out


@pytest.mark.parametrize("chosen", [["mine.png"], []])
def test_in_colab_the_upload_is_colabs(chosen, monkeypatch):
    colab = ModuleType("google.colab")
    colab.files = ModuleType("files")
    colab.files.upload = lambda: dict.fromkeys(chosen, b"")
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    found = demos.upload()
    assert (found and [found.name]) == (chosen or None)


def test_where_a_set_cannot_be_had_another_takes_its_place_aloud(capsys, monkeypatch):
    load = data.load

    def offline(name, *rest):
        if name == "mnist":
            raise FileNotFoundError(name)
        return load(name, *rest)

    monkeypatch.setattr(data, "load", offline)
    assert demos.largest("mnist", "mnist-mini").name == "mnist-mini"
    assert "uses mnist-mini" in capsys.readouterr().out
    assert demos.largest("mnist-mini", "cifar-10-mini").name == "mnist-mini"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("each, fit", [(0.1, 10), (1.0, 1), (100.0, 1), (0.001, 20)])
def test_as_many_epochs_as_the_clock_allows(each, fit, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(demos.time, "perf_counter", lambda: clock[0])

    def step():
        clock[0] += each

    assert demos.epochs_within(100.0, step, batches=100, most=20) == fit


def test_a_vote_is_held_against_the_report():
    rows = demos.verdicts({"A": "robust", "B": "robust"}, {"A": (), "B": ("zero gradients", "x")})
    assert rows == [
        ["A", "robust", "robust", "yes", "no sign of masking"],
        ["B", "robust", "masked", "**no**", "zero gradients, x"],
    ]
    for votes in ({"A": "robust"}, {"A": "robust", "B": "maybe"}):
        with pytest.raises(ValueError, match=r"for each of \['A', 'B'\]"):
            demos.verdicts(votes, {"A": (), "B": ()})
