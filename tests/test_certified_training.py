import copy
import json
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adversarial_lab import data, nets, runs
from adversarial_lab.certified import (
    Graph,
    Interval,
    certified_ramp,
    certify,
    crown_ibp_loss,
    ibp_loss,
    initialise_for_intervals,
    margins,
    region,
    short_warmup_loss,
    short_warmup_ramp,
    trace,
    widening,
)
from adversarial_lab.certified.batch_norm import depends_on_batch, hold
from adversarial_lab.certified.interval import propagate
from adversarial_lab.certified.short_warmup import balance, smoothly, tightness
from adversarial_lab.certified.training import worst_logits
from adversarial_lab.data import Batches
from adversarial_lab.pgd import attack_model, cross_entropy, pgd
from adversarial_lab.runs.__main__ import main
from adversarial_lab.runs.classifier import adam_drops, adam_drops_clipped
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import attacking, erm, fit

LINF = ThreatModel(norm="linf", eps=0.1)
LOSSES = {"ibp": ibp_loss, "crown-ibp": partial(crown_ibp_loss, beta=0.6)}


def network(seed=5):
    torch.manual_seed(seed)
    first = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*first, nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def points(rng):
    return torch.rand(16, 1, 4, 4, generator=rng), torch.randint(3, (16,), generator=rng)


def gradients(loss, model):
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])


# -- the loss ------------------------------------------------------------------------------------


def test_worst_logits_by_hand():
    """z_y - z_j >= 1 for one rival, >= -2 for the other: the worst logits are 0, -1 and 2."""
    low = torch.tensor([[torch.inf, 1.0, -2.0], [3.0, torch.inf, 0.5]])
    expected = torch.tensor([[0.0, -1.0, 2.0], [-3.0, 0.0, -0.5]])
    assert torch.equal(worst_logits(low, torch.tensor([0, 1])), expected)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(("eps", "kappa"), [(0.1, 1.0), (0.0, 0.5), (0.0, 0.0), (0.0, 1.0)])
@pytest.mark.claim("17.4.4", "certified training at eps 0 or kappa 1 is plain training")
def test_without_radius_or_weight_it_is_erm(points, loss, eps, kappa):
    model = network()
    ours = loss(model, *points, threat=LINF.with_eps(eps), kappa=kappa)
    theirs = erm(model, *points)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        gradients(ours, model), gradients(theirs, model), rtol=1e-4, atol=1e-6
    )


def test_a_linear_model_has_its_exact_worst_case(rng):
    """Every margin falls by eps ||W_y - W_j||_1: the loss is that of the dual-norm margins."""
    layer = nn.Linear(6, 3)
    x, y = torch.rand(20, 6, generator=rng), torch.randint(3, (20,), generator=rng)
    threat, model = ThreatModel(norm="linf", eps=0.2, box=None), nn.Sequential(layer)
    for loss in LOSSES.values():
        z, w = layer(x), layer.weight
        fall = 0.2 * (w[y][:, None] - w).abs().sum(2)
        expected = F.cross_entropy(z - z.gather(1, y[:, None]) + fall, y)
        ours = loss(model, x, y, threat=threat, kappa=0.0)
        torch.testing.assert_close(ours, expected)
        mixed = loss(model, x, y, threat=threat, kappa=0.3)
        torch.testing.assert_close(mixed, 0.3 * F.cross_entropy(z, y) + 0.7 * expected)
        torch.testing.assert_close(gradients(ours, layer), gradients(expected, layer))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.claim("17.4.4", "the loss of certified training is never below the loss under attack")
def test_no_attack_reaches_a_larger_loss(points, norm, beta, rng):
    x, y = points
    model, threat = network(), ThreatModel(norm=norm, eps=0.1)
    for i in range(4):
        one = slice(4 * i, 4 * i + 4)
        bound = crown_ibp_loss(model, x[one], y[one], threat=threat, kappa=0.0, beta=beta)
        with attacking(model):
            f = lambda z, labels=y[one]: cross_entropy(model(z), labels)  # noqa: E731
            worst = f(pgd(f, x[one], threat, steps=20, rng=rng)).mean()
        assert worst <= bound
        assert worst > erm(model, x[one], y[one]) - 1e-6


@pytest.mark.claim("17.4.4", "linear bounds are tighter than interval bounds early in training")
def test_linear_bounds_lower_the_loss_of_an_untrained_network(points):
    at = lambda beta: crown_ibp_loss(  # noqa: E731
        network(), *points, threat=LINF, kappa=0.0, beta=beta
    ).item()
    assert at(1.0) < at(0.5) < at(0.0) - 0.01
    assert at(0.0) == ibp_loss(network(), *points, threat=LINF, kappa=0.0).item()


def test_the_mixture_is_linear_in_the_worst_logits(points):
    x, y = points
    model, where = network(), (*points, LINF)
    tight, loose = (
        worst_logits(margins(model, *where, method, outward=False), y)
        for method in ("crown-ibp", "ibp")
    )
    expected = F.cross_entropy(0.25 * tight + 0.75 * loose, y)
    ours = crown_ibp_loss(model, x, y, threat=LINF, kappa=0.0, beta=0.25)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_gradient_is_that_of_finite_differences(points, loss):
    model, (x, y) = network().double(), points
    value = lambda: loss(model, x.double(), y, threat=LINF, kappa=0.4)  # noqa: E731
    grads, step = gradients(value(), model), 1e-6
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    direction = torch.randn(len(start), dtype=torch.float64) / len(start) ** 0.5
    ends = []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(start + sign * step * direction, model.parameters())
        ends.append(value().item())
    slope = (ends[0] - ends[1]) / (2 * step)
    assert slope == pytest.approx((grads @ direction).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappa": 1.5}, r"kappa must be in \[0, 1\], got 1.5"),
        ({"kappa": math.nan}, "kappa must be in"),
        ({"beta": -0.1}, r"beta must be in \[0, 1\], got -0.1"),
        ({"x": torch.full((16, 1, 4, 4), 2.0)}, "x must lie in the box"),
        ({"y": torch.full((16,), 3)}, r"labels 0\.\.2"),
        (
            {"model": nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(16, 3))},
            "random in training",
        ),
    ],
)
def test_bad_input_is_refused(points, change, message, unchecked):
    given = {"model": network(), "x": points[0], "y": points[1], "threat": LINF}
    with pytest.raises(ValueError, match=message):
        crown_ibp_loss(**(given | {"kappa": 0.5, "beta": 0.0} | change))


# -- the ramp ------------------------------------------------------------------------------------


def test_the_ramp_by_hand():
    ramp = certified_ramp(LINF, warm=0.2, over=0.4, excess=1.1, kappa=0.5)
    found = [(ramp(t)["threat"].eps, ramp(t)["kappa"]) for t in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0)]
    expected = [(0, 1), (0, 1), (0.0275, 0.875), (0.055, 0.75), (0.11, 0.5), (0.11, 0.5)]
    for pair, known in zip(found, expected, strict=True):
        assert pair == pytest.approx(known)
    assert set(ramp(0.3)) == {"threat", "kappa"}


def test_the_mixing_ramp_ends_in_interval_bounds():
    ramp = certified_ramp(LINF, warm=0.0, over=0.5, mix=True)
    assert [ramp(t)["beta"] for t in (0.0, 0.25, 0.5, 0.9)] == [1, 0.5, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"over": 0.0}, "need 0 <= warm, 0 < over"),
        ({"warm": 0.7}, r"warm \+ over <= 1, got 0.7 and 0.5"),
        ({"warm": -0.1}, "need 0 <= warm"),
        ({"excess": 0.9}, "need excess >= 1"),
        ({"kappa": 2.0}, r"kappa in \[0, 1\], got 1.1 and 2.0"),
    ],
)
def test_impossible_ramps_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        certified_ramp(LINF, **({"warm": 0.1, "over": 0.5} | change))


def test_gradients_are_cut_to_length_ten():
    layer = nn.Linear(2, 2)
    adam, _ = adam_drops_clipped(layer, runs.certified.Config(epochs=12), per_epoch=5)
    for size in (400.0, 0.1):
        layer.weight.grad, layer.bias.grad = torch.full((2, 2), size), torch.zeros(2)
        adam.step()
        assert layer.weight.grad.norm().item() == pytest.approx(min(2 * size, 10), rel=1e-3)


def test_the_learning_rate_drops_twice():
    adam, schedule = adam_drops(nn.Linear(2, 2), runs.certified.Config(epochs=12), per_epoch=5)
    rates = []
    for _ in range(60):
        rates.append(adam.param_groups[0]["lr"])
        adam.step()
        schedule.step()
    assert rates == pytest.approx([2e-3] * 45 + [2e-4] * 10 + [2e-5] * 5)


# -- batch norm ----------------------------------------------------------------------------------


def normed(seed=5):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8)]
    layers += [nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)]
    model = nn.Sequential(*layers)
    for layer in (model[1], model[5]):
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return model


def test_a_held_network_is_the_one_that_training_sees(points):
    """The same logits as in training mode, running statistics moved once, others untouched."""
    model, (x, _) = normed(), points
    twin = copy.deepcopy(model)
    logits, held = hold(trace(model), x)
    torch.testing.assert_close(logits, twin(x))
    torch.testing.assert_close(held(x), logits)
    torch.testing.assert_close(model.state_dict(), twin.state_dict())
    assert not depends_on_batch(held) and depends_on_batch(trace(model))
    assert hold(trace(model.eval()), x)[1] == trace(model)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_bounds_with_batch_norm_hold_for_the_held_network(points, loss, rng):
    """Bounds in training mode are those in eval mode with this batch's statistics."""
    model, (x, y) = normed(), points
    still = copy.deepcopy(model)
    for layer in (still[1], still[5]):
        layer.momentum = None  # the running statistics become this batch's
    still(x)
    for layer, size in ((still[1], 64), (still[5], 16)):
        layer.running_var *= (size - 1) / size  # torch keeps the unbiased one
    bound, mixed = (loss(model, x, y, threat=LINF, kappa=kappa) for kappa in (0.0, 0.4))
    torch.testing.assert_close(bound, loss(still.eval(), x, y, threat=LINF, kappa=0.0))
    torch.testing.assert_close(mixed, 0.6 * bound + 0.4 * erm(still, x, y))
    with attacking(still):
        f = lambda z: cross_entropy(still(z), y)  # noqa: E731
        assert f(pgd(f, x, LINF, steps=20, rng=rng)).mean() <= bound


def test_the_gradient_goes_through_the_statistics_of_the_batch(points):
    """Finite differences of the whole loss; without that path they disagree."""
    model, (x, y) = normed().double(), points
    value = lambda: ibp_loss(model, x.double(), y, threat=LINF, kappa=0.0)  # noqa: E731
    (grad,), step = torch.autograd.grad(value(), [model[0].weight]), 1e-6
    direction, ends = torch.randn_like(grad), []
    for sign in (1, -1):
        with torch.no_grad():
            model[0].weight += sign * step * direction
        ends.append(value().item())
        with torch.no_grad():
            model[0].weight -= sign * step * direction
    slope = (ends[0] - ends[1]) / (2 * step)
    assert slope == pytest.approx((grad * direction).sum().item(), rel=1e-5)


# -- short warm-up -------------------------------------------------------------------------------


def test_bounds_keep_their_width_from_layer_to_layer():
    """The weights of Shi et al. in a wide network: 2 after the first layer, then no growth."""
    torch.manual_seed(0)
    layers = [nn.Linear(400, 400, bias=False)]
    for _ in range(4):
        layers += [nn.ReLU(), nn.Linear(400, 400, bias=False)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Linear(400, 3))
    x = torch.randn(20, 400)
    threat = ThreatModel(norm="linf", eps=1e-3, box=None)
    usual, ours = (widening(m(model), x, threat) for m in (nn.Sequential, initialise_for_intervals))
    assert ours == pytest.approx([2.0] * 5, rel=0.15)
    assert usual[-1] > 100 * usual[0]


def test_widening_by_hand():
    """|W|r: half-widths 0.5 and 0.5 become 1.5 and 1; batch norm divides by the batch's spread."""
    dense = nn.Linear(2, 2, bias=False)
    dense.weight.data = torch.tensor([[1.0, -2.0], [2.0, 0.0]])
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    threat = ThreatModel(norm="linf", eps=0.5, box=None)
    assert widening(nn.Sequential(dense, nn.ReLU(), nn.Linear(2, 2)), x, threat) == [2.5]
    normed = nn.Sequential(dense, nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2))
    assert widening(normed, x, threat) == pytest.approx([(1.5 / 1 + 1 / 2) / 2 / 0.5], rel=1e-4)


def test_the_last_layer_keeps_its_weights():
    model = network()
    last = model[-1].weight.clone()
    first = model[0].weight.clone()
    initialise_for_intervals(model)
    assert torch.equal(model[-1].weight, last) and not torch.equal(model[0].weight, first)


def test_the_penalties_by_hand():
    """Half-widths 1 and 4: ratio 1/4, so 1/2. Units at 6 and 1 on, at -2 off, one undecided."""
    first = Interval(torch.zeros(1, 2), torch.full((1, 2), 2.0))
    wide = Interval(torch.full((1, 2), -4.0), torch.full((1, 2), 4.0))
    assert tightness(first, wide).item() == pytest.approx(0.5)
    assert tightness(first, first).item() == 0
    centre = torch.tensor([[6.0, 1.0, -2.0, -1.0]])  # their mean is 1
    half = torch.tensor([[0.5, 0.5, 0.5, 2.0]])
    sizes, squares = 2 / (6 + 1), 3**2 / (5**2 + 0)
    expected = ((0.5 - sizes) + (0.5 - squares)) / 0.5
    assert balance(Interval(centre - half, centre + half)).item() == pytest.approx(expected)
    on = Interval(torch.ones(1, 3), torch.tensor([[2.0, 3.0, 4.0]]).requires_grad_())
    worst = balance(on)
    assert worst.item() == 2  # all are on: both ratios are 0
    assert torch.autograd.grad(worst, on.upper)[0].isfinite().all()


@pytest.mark.claim("17.4.4", "the penalties of a short warm-up are added to the bound's loss")
def test_the_short_warm_up_is_the_interval_loss_and_its_penalties(points):
    model, where = normed(), {"threat": LINF}
    for kappa in (0.0, 0.3, 1.0):
        plain = ibp_loss(model, *points, **where, kappa=kappa)
        bare = short_warmup_loss(model, *points, **where, kappa=kappa, strength=0.0)
        torch.testing.assert_close(bare, plain)
    extra = [
        short_warmup_loss(model, *points, **where, kappa=0.0, strength=s) - ibp_loss(
            model, *points, **where, kappa=0.0
        )
        for s in (0.5, 1.0)
    ]  # fmt: skip
    assert extra[0].item() == pytest.approx(extra[1].item() / 2, rel=1e-4)
    _, held = hold(trace(model), points[0])
    box = region(points[0], LINF).box
    fronts = (propagate(Graph(held.nodes[:k]), box, False) for k in (2, 6))  # before the two ReLUs
    expected = sum(tightness(box, at) + balance(at) for at in fronts) / 2
    torch.testing.assert_close(extra[1], expected, rtol=1e-4, atol=0.0)
    assert gradients(extra[1], model).abs().max() > 0
    clean = short_warmup_loss(model, *points, threat=LINF.with_eps(0.0), kappa=0.0, strength=1.0)
    torch.testing.assert_close(clean, erm(model, *points))


def test_the_short_ramp_by_hand():
    """A quarter of the way up the fourth power has 1/13 of the height; then a straight line."""
    ramp = short_warmup_ramp(LINF, warm=0.2, over=0.4, excess=1.1, strength=0.5)
    found = [(ramp(t)["threat"].eps / 0.11, ramp(t)["kappa"], ramp(t)["strength"])
             for t in (0.0, 0.2, 0.3, 0.45, 0.6, 1.0)]  # fmt: skip
    third = 1 - 12 / 13 * 0.375 / 0.75
    expected = [(1e-3, 1, 0.5), (1e-3, 1, 0.5), (1 / 13, 0, 0.5 * 12 / 13),
                (third, 0, 0.5 * (1 - third)), (1, 0, 0), (1, 0, 0)]  # fmt: skip
    for triple, known in zip(found, expected, strict=True):
        assert triple == pytest.approx(known)
    assert smoothly(0.125) == pytest.approx(1 / 13 / 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappa": -0.5}, r"kappa must be in \[0, 1\], got -0.5"),
        ({"strength": -1.0}, "strength must be finite and >= 0, got -1.0"),
        ({"strength": math.nan}, "strength must be finite"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(16, 3))}, "model must have ReLUs"),
    ],
)
def test_the_short_warm_up_refuses_bad_input(points, change, message):
    given = {"model": network(), "x": points[0], "y": points[1], "threat": LINF}
    with pytest.raises(ValueError, match=message):
        short_warmup_loss(**(given | {"kappa": 0.5, "strength": 0.5} | change))
    with pytest.raises(ValueError, match="need excess >= 1 and strength >= 0, got 0.5 and 0.5"):
        short_warmup_ramp(LINF, warm=0.1, over=0.2, excess=0.5)


# -- training ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ibp", "crown-ibp"])
@pytest.mark.claim("17.4.4", "training on the bound makes predictions provable that were not")
def test_training_on_the_bound_makes_digits_provable(loss):
    rng, threat = torch.Generator().manual_seed(0), ThreatModel(norm="linf", eps=0.05)
    x, y = data.load("mnist-mini", "test", 200)
    shares = {}
    for objective, ramp in (
        (erm, lambda t: {}),
        ({"ibp": ibp_loss, "crown-ibp": crown_ibp_loss}[loss],
         certified_ramp(threat, warm=0.1, over=0.4, mix=loss == "crown-ibp")),
    ):  # fmt: skip
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 40), nn.ReLU(), nn.Linear(40, 10))
        adam = torch.optim.Adam(model.parameters(), lr=0.005)
        train = Batches(*data.load("mnist-mini", "train", 1000), 50, rng)
        fit(model, train, objective, epochs=8, optimizer=adam, rng=rng, ramp=ramp, progress=False)
        shares[objective] = certify(model, x, y, threat, "ibp").double().mean().item()
    plain, trained = shares.values()
    assert plain < 0.1 and trained > 0.5


TINY = "dataset=mnist-mini train_images=100 test_images=30 strong_images=4 epochs=3 batch_size=50"


@pytest.mark.slow
@pytest.mark.parametrize("training", ["ibp", "crown-ibp", "short-warmup"])
def test_a_run_certifies_and_saves_its_record(training, tmp_path, capsys):
    words = ["certified", *TINY.split(), f"training={training}", "eps=0.06", "--quiet"]
    if training == "short-warmup":
        words += ["network=cnn7-mnist-8", "recipe=adam-drops-clipped"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    m = {name: metric["value"] for name, metric in record["metrics"].items()}
    assert list(m) == ["clean", "ibp 0.02", "ibp 0.04", "ibp 0.06", "pgd-40", "pgd-100x10"]
    assert m["clean"] >= m["pgd-40"] >= m["ibp 0.06"] and m["ibp 0.02"] >= m["ibp 0.06"]
    assert set(record["history"][0]) == {"epoch", "loss", "clean", "ibp"}
    assert (tmp_path / f"{record['run_id']}.safetensors").exists()


@pytest.mark.parametrize("setting", ["dataset=imagenet", "network=vgg", "training=pgd", "recipe=x"])
def test_unknown_settings_are_refused_with_the_choices(setting, tmp_path, capsys):
    assert main(["certified", setting, "--out", str(tmp_path)]) == 2
    key, value = setting.split("=")
    assert f"{key} must be one of [" in (error := capsys.readouterr().err) and value in error


def test_the_full_scale_is_that_of_the_paper_and_needs_a_gpu(tmp_path, capsys, monkeypatch):
    c = runs.certified.SCALES["full"]
    assert (c.dataset, c.network, c.eps, c.excess) == ("cifar-10", "cnn7", 8 / 255, 1.0)
    assert (c.epochs, c.batch_size, c.peak, c.train_images) == (160, 128, 0.0005, None)
    monkeypatch.setattr(nets, "best_device", lambda: torch.device("cpu"))
    assert main(["certified", "--scale", "full", "--out", str(tmp_path)]) == 2
    assert "certified --scale full needs a GPU and torch sees none" in capsys.readouterr().err


@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28)])
def test_the_large_networks_have_the_stated_sizes(channels, side):
    with torch.device("meta"):
        models = [nets.cnn7(channels, side)] + [nets.dm_large()] * (channels == 3)
        sizes = [sum(p.numel() for p in model.parameters()) for model in models]
        assert models[0].eval()(torch.rand(2, channels, side, side)).shape == (2, 10)
    widths = [channels, 64, 64, 128, 128, 128]
    convolutions = sum(9 * a * b + b for a, b in zip(widths, widths[1:], strict=False))
    size = convolutions + 128 * (side // 2) ** 2 * 512 + 512 + 512 * 10 + 10
    assert sizes == [size + 2 * (64 * 2 + 128 * 3 + 512), size][: len(sizes)]
    with pytest.raises(ValueError, match="side even, classes >= 2, got 1, 64, 27 and 10"):
        nets.cnn7(1, 27)


# -- the shipped network -------------------------------------------------------------------------


@pytest.mark.claim("17.4.4", "a certified network for MNIST at linf eps 0.3")
def test_the_shipped_network_is_certified_as_its_record_says():
    record = {k: v["value"] for k, v in nets.shipped_record("mnist-ibp")["metrics"].items()}
    assert record["clean"] >= 0.96 and record["pgd-40"] >= 0.905
    targets = {"ibp 0.1": 0.942, "ibp 0.2": 0.909, "ibp 0.3": 0.846}
    assert all(record[name] >= share for name, share in targets.items())
    model, (x, y) = nets.shipped("mnist-ibp"), data.load("mnist-mini", "test")
    for eps in (0.1, 0.2, 0.3):
        proved = certify(model, x, y, ThreatModel(norm="linf", eps=eps), "ibp").double().mean()
        assert proved.item() == pytest.approx(record[f"ibp {eps}"], abs=0.025)


@pytest.mark.slow
@pytest.mark.claim("17.4.3", "no attack succeeds inside a certificate: certified <= empirical")
def test_what_is_certified_withstands_every_attack():
    model, (x, y) = nets.shipped("mnist-ibp"), data.load("mnist-mini", "test", 200)
    threat, rng = ThreatModel(norm="linf", eps=0.3), torch.Generator().manual_seed(0)
    proved = certify(model, x, y, threat, "ibp")
    found = attack_model(model, x, y, threat, steps=60, restarts=2, rng=rng)
    assert not (proved & found.fooled).any()
    assert proved.double().mean() > 0.75 and found.fooled.any()
