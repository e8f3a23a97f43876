import hashlib
import json
from functools import partial
from pathlib import Path

import pytest
import torch

import adversarial_lab
from adversarial_lab import data, nets
from adversarial_lab.pgd import attack_model
from adversarial_lab.threat import ThreatModel

WEIGHTS = Path(adversarial_lab.__file__).parent / "weights"


def size(model):
    return sum(p.numel() for p in model.parameters())


def test_networks_have_the_stated_sizes_and_shapes(rng):
    assert size(nets.mnist_cnn()) == 166_406
    assert size(nets.preact_resnet18()) == 11_172_170
    assert size(nets.preact_resnet18(width=32)) == 2_796_714
    assert size(nets.preact_resnet50()) == 23_513_162
    x = torch.rand(2, 3, 32, 32, generator=rng)
    assert nets.preact_resnet50(width=4, classes=7)(x).shape == (2, 7)
    assert nets.preact_resnet18(width=8, classes=7)(x).shape == (2, 7)
    assert nets.mnist_cnn()(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    with pytest.raises(ValueError, match="width >= 1 and classes >= 2, got 0 and 10"):
        nets.preact_resnet18(width=0)
    with pytest.raises(ValueError, match="classes >= 2, got 64 and 1"):
        nets.preact_resnet50(classes=1)


def test_normalisation_is_inside_the_network(rng):
    torch.manual_seed(0)
    model = nets.preact_resnet18(width=4).eval()
    x = torch.rand(2, 3, 32, 32, generator=rng)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    outside = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(model(x), model[1:](outside))


def test_cifar_statistics_are_those_of_the_images():
    x = data.load("cifar-10-mini", "train").x
    normal = nets.cifar10_normalize()(x)
    assert normal.mean((0, 2, 3)).abs().max() < 0.1
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 0.1


def test_a_preactivation_block_adds_to_its_input(rng):
    torch.manual_seed(0)
    block = nets.PreActBlock(4, 4, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    narrow = nets.PreActBottleneck(4, 4, 1).eval()
    torch.nn.init.zeros_(narrow.conv3.weight)
    x = torch.randn(1, 4, 5, 5, generator=rng)
    torch.testing.assert_close(block(x), x)
    torch.testing.assert_close(narrow(x), x)


@pytest.mark.parametrize("name", sorted(nets.SHIPPED))
def test_shipped_networks_are_what_their_record_says(name):
    record = nets.shipped_record(name)
    digest = hashlib.sha256((WEIGHTS / f"{name}.safetensors").read_bytes()).hexdigest()
    assert digest == record["weights"]["sha256"]
    assert record["data"]["train"] == (record["config"]["train_images"] or 60_000)
    assert record["data"]["test"] == 10_000
    model, (x, y) = nets.shipped(name), data.load("mnist-mini", "test")
    assert not model.training and all(p.dtype == torch.float32 for p in model.parameters())
    clean = (model(x).argmax(1) == y).double().mean().item()
    assert clean == pytest.approx(record["metrics"]["clean"]["value"], abs=0.015)


@pytest.mark.parametrize(("name", "low", "high"), [("mnist-pgd", 0.9, 1), ("mnist-standard", 0, 0)])
@pytest.mark.claim("17.1.3", "PGD training gives robustness against the attack it trains on")
@pytest.mark.claim("lecture", "an undefended network loses every digit to an attack")
def test_the_robust_network_withstands_pgd_and_the_standard_one_does_not(name, low, high):
    x, y = data.load("mnist-mini", "test", 200)
    threat = ThreatModel(norm="linf", eps=0.3)
    rng = torch.Generator().manual_seed(0)
    found = attack_model(nets.shipped(name), x, y, threat, steps=40, rng=rng)
    assert low <= found.robust_accuracy <= high


def test_l1_attacks_move_pixels_that_can_move():
    """Most pixels of a digit are black or white: a step on the steepest one alone would stand."""
    x, y = data.load("mnist-mini", "test", 100)
    threat, rng = ThreatModel(norm="l1", eps=20.0), torch.Generator().manual_seed(0)
    attack = partial(attack_model, x=x, y=y, threat=threat, steps=20, step_size=5.0, rng=rng)
    standard, robust = (attack(nets.shipped(n)) for n in ("mnist-standard", "mnist-pgd"))
    assert standard.robust_accuracy <= 0.05 < robust.robust_accuracy


def test_the_shipped_robust_network_meets_its_target():
    record = nets.shipped_record("mnist-pgd")
    assert record["config"]["eps"] == 0.3
    assert (
        record["metrics"]["pgd-40"]["value"] >= 0.92 and record["metrics"]["pgd-40"]["n"] == 10_000
    )
    assert record["metrics"]["pgd-100x10"]["value"] <= record["metrics"]["pgd-40"]["high"]


def test_shipped_weights_are_small_and_every_file_has_its_record():
    files = sorted(WEIGHTS.glob("*.safetensors"))
    assert {f.stem for f in files} == set(nets.SHIPPED)
    assert (
        sum((WEIGHTS / f"mnist-{n}.safetensors").stat().st_size for n in ("pgd", "standard")) < 1e6
    )
    for file in files:
        json.loads(file.with_suffix(".json").read_text())


def test_an_unknown_network_lists_the_known_ones():
    with pytest.raises(ValueError, match="name must be one of.*mnist-pgd.*got 'mnist'"):
        nets.shipped("mnist")


def test_best_device_is_one_that_works():
    assert torch.zeros(1, device=nets.best_device()).sum() == 0
