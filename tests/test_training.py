import os
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adversarial_lab.data import Batches
from adversarial_lab.pgd import pgd
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import (
    _seeded,
    adversarial,
    eps_warmup,
    erm,
    fit,
    fit_path,
    one_cycle,
    piecewise,
    weight_average,
)

THREAT = ThreatModel(norm="linf", eps=0.1)


@pytest.fixture
def points(rng):
    """Two classes of 1 x 4 x 4 'images' that a small network can tell apart."""
    y = torch.arange(96) % 2
    x = 0.35 + 0.3 * y.view(-1, 1, 1, 1) + 0.1 * torch.randn(96, 1, 4, 4, generator=rng)
    return x.clamp(0, 1), y


def network():
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )


def learn(points, epochs, make_objective=lambda rng: erm, decay=0.9, rng=None, **settings):
    """A run from the same seeds each time: (averaged network, rows)."""
    model, rng = network(), rng or torch.Generator().manual_seed(3)
    loader = Batches(*points, 16, rng)
    optimizer = torch.optim.Adam(model.parameters())
    average = weight_average(model, decay)
    schedule = one_cycle(optimizer, peak=0.01, steps=4 * len(loader))
    rows = fit(
        model,
        loader,
        make_objective(rng),
        epochs=epochs,
        optimizer=optimizer,
        rng=rng,
        schedule=schedule,
        average=average,
        progress=False,
        **settings,
    )
    return average.module, rows


def weights(model):
    return torch.cat([v.double().flatten() for v in model.state_dict().values()])


@pytest.mark.claim("17.1.2", "Eq. (2): one step of gradient descent on the adversarial loss")
def test_one_step_is_equation_2(points):
    x, y = points
    model, twin = network().eval(), network().eval()
    threat = ThreatModel(norm="linf", eps=0.1)
    attack = partial(pgd, steps=3, start=x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    adversarial(model, x, y, threat=threat, attack=attack).backward()
    optimizer.step()
    z = pgd(lambda z: F.cross_entropy(twin(z), y, reduction="none"), x, threat, steps=3, start=x)
    loss = F.cross_entropy(twin(z), y)
    gradient = torch.autograd.grad(loss, list(twin.parameters()))
    for p, q, g in zip(model.parameters(), twin.parameters(), gradient, strict=True):
        torch.testing.assert_close(p, q - 0.5 * g)


@pytest.mark.claim("17.1", "adversarial training at eps 0 is ordinary training")
def test_adversarial_training_at_eps_0_is_erm(points):
    attack = partial(pgd, steps=2, step_size=0.1, rng=torch.Generator().manual_seed(0))
    zero = partial(adversarial, threat=ThreatModel(norm="linf", eps=0.0), attack=attack)
    robust, plain = learn(points, 2, lambda rng: zero), learn(points, 2)
    assert torch.equal(weights(robust[0]), weights(plain[0])) and robust[1] == plain[1]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.claim("17.1", "for a linear model the inner maximum is a dual-norm penalty")
def test_adversarial_loss_of_a_linear_model_is_its_dual_norm_penalty(norm, rng):
    w, x = torch.randn(6, generator=rng), torch.randn(40, 6, generator=rng)
    y = torch.randint(2, (40,), generator=rng)
    model = nn.Linear(6, 2)
    with torch.no_grad():
        model.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.bias.zero_()
    threat = ThreatModel(norm=norm, eps=0.3, box=None)
    attack = partial(pgd, steps=80, step_size=0.03, rng=rng)
    dual = {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[norm]
    margin = (2 * y - 1) * (x @ w) - 0.3 * dual
    exact = F.softplus(-margin).mean()
    ours = adversarial(model, x, y, threat=threat, attack=attack)
    torch.testing.assert_close(ours, exact, rtol=2e-3, atol=0)


def test_the_attack_runs_in_eval_mode_and_the_step_in_training_mode(points):
    model, modes = network().train(), []
    model.register_forward_hook(lambda m, *_: modes.append(m.training))
    seen = model[1].running_mean.clone()
    adversarial(
        model, *points, threat=ThreatModel(norm="linf", eps=0.1), attack=partial(pgd, steps=2)
    )
    assert modes == [False, False, True]
    moved = (model[1].running_mean - seen).abs().max()
    assert moved > 0  # BatchNorm saw the adversarial batch once, in the outer step


def test_training_learns_and_reports_each_epoch(points):
    watch = lambda m: {"accuracy": (m(points[0]).argmax(1) == points[1]).double().mean().item()}  # noqa: E731
    model, rows = learn(points, 4, watch=watch)
    assert [r["epoch"] for r in rows] == [1, 2, 3, 4]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"] and rows[-1]["accuracy"] == 1.0


def noisy(rng):
    """Adversarial training whose random starts come from the run's own generator."""
    attack = partial(pgd, steps=2, rng=rng)
    return partial(adversarial, threat=THREAT, attack=attack)


def interrupted(make, at):
    """The same objective, with Ctrl-C pressed in step `at`."""

    def made(rng):
        objective, steps = make(rng), iter(range(10**6))

        def wrapped(*args, **kwargs):
            if next(steps) == at:
                raise KeyboardInterrupt
            return objective(*args, **kwargs)

        return wrapped

    return made


@pytest.mark.parametrize("epochs_done", [0, 1, 3])
def test_interrupted_training_resumes_to_the_last_digit(points, tmp_path, epochs_done):
    whole, rows = learn(points, 4, noisy)
    file = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        learn(points, 4, interrupted(noisy, at=6 * epochs_done + 4), checkpoint=file)
    assert file.exists() == (epochs_done > 0)
    resumed, again = learn(points, 4, noisy, checkpoint=file)
    assert torch.equal(weights(whole), weights(resumed)) and again == rows


def test_a_finished_run_is_not_trained_again(points, tmp_path):
    file = tmp_path / "run.safetensors"
    model, rows = learn(points, 4, noisy, checkpoint=file)
    never = lambda rng: pytest.fail  # noqa: E731
    again, same = learn(points, 4, never, checkpoint=file)
    assert same == rows and torch.equal(weights(again), weights(model))


def test_a_crash_while_saving_keeps_the_last_checkpoint(points, tmp_path, monkeypatch):
    file = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        learn(points, 2, interrupted(noisy, at=8), checkpoint=file)
    before = file.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        learn(points, 2, noisy, checkpoint=file)
    assert file.read_bytes() == before


def test_the_same_call_again_resumes_with_the_same_generator(points, tmp_path):
    """In a notebook: Ctrl-C, then run the cell's fit once more."""
    whole, rows = learn(points, 4, noisy)
    file, rng = tmp_path / "run.safetensors", torch.Generator().manual_seed(3)
    with pytest.raises(KeyboardInterrupt):
        learn(points, 4, interrupted(noisy, at=14), checkpoint=file, rng=rng)
    resumed, again = learn(points, 4, noisy, checkpoint=file, rng=rng)
    assert torch.equal(weights(whole), weights(resumed)) and again == rows
    assert rng.initial_seed() == 3


def test_the_epochs_of_two_seeds_share_no_noise():
    rng, first = torch.Generator(), set()
    for seed in range(50):
        rng.manual_seed(seed)
        for epoch in range(200):
            with _seeded(rng, epoch):
                first.add(rng.initial_seed())
    assert len(first) == 50 * 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "another training, {'epochs': 2}, and this one has {'epochs': 3}"),
        ({"rng": torch.Generator().manual_seed(8)}, "'seed': 3.*'seed': 8"),
        ({"points": slice(50)}, "'batches': 6.*'batches': 4"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(points, tmp_path, change, message):
    file = tmp_path / "run.safetensors"
    learn(points, 2, checkpoint=file)
    part = change.pop("points", slice(None))
    with pytest.raises(ValueError, match=message):
        learn([t[part] for t in points], **{"epochs": 2, "checkpoint": file, **change})


def test_a_checkpoint_with_other_parts_or_no_checkpoint_at_all_is_refused(points, tmp_path):
    file = tmp_path / "run.safetensors"
    learn(points, 1, checkpoint=file)
    model, rng = network(), torch.Generator().manual_seed(3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    train = partial(fit, model, Batches(*points, 16, rng), erm, epochs=1, optimizer=sgd, rng=rng)
    with pytest.raises(ValueError, match="'optimizer': 'Adam'.*'optimizer': 'SGD'"):
        train(checkpoint=file)
    file.write_bytes(b"junk")
    with pytest.raises(ValueError, match="is not one of a training"):
        train(checkpoint=file)


def test_a_loader_without_a_length_is_refused(points):
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="loader must have a length >= 1"):
        fit(model, iter([points]), erm, epochs=1, optimizer=sgd, rng=torch.Generator())


def test_a_loss_that_is_not_finite_stops_training(points):
    broken = lambda rng: lambda model, x, y: model(x).sum() * float("nan")  # noqa: E731
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        learn(points, 2, broken)


def test_the_ramp_sees_the_fraction_of_training_done(points):
    seen = []

    def objective(model, x, y, t):
        seen.append(t)
        return erm(model, x, y)

    learn(points, 2, lambda rng: objective, ramp=lambda t: {"t": t})
    assert seen == pytest.approx([k / 12 for k in range(12)])


def test_eps_warmup_grows_linearly_then_stays():
    ramp = eps_warmup(ThreatModel(norm="linf", eps=0.3), over=0.5)
    radii = [ramp(t)["threat"].eps for t in (0, 0.25, 0.5, 1)]
    assert radii == pytest.approx([0, 0.15, 0.3, 0.3])
    assert eps_warmup(THREAT, over=0)(0.0)["threat"] == THREAT
    with pytest.raises(ValueError, match="over must be a fraction"):
        eps_warmup(THREAT, over=5)


def test_schedules_have_the_right_learning_rates():
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    steps = piecewise(sgd, milestones=[2, 4])
    rates = [sgd.param_groups[0]["lr"]]
    for _ in range(5):
        sgd.step()
        steps.step()
        rates.append(sgd.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cycle = one_cycle(sgd, peak=0.5, steps=100)
    rates = []
    for _ in range(99):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        cycle.step()
    assert max(rates) == pytest.approx(0.5, rel=1e-2) and rates.index(max(rates)) == 29
    assert rates[0] < 0.03 and sgd.param_groups[0]["lr"] < 1e-4


def test_weight_average_is_exponential():
    model = nn.Linear(1, 1, bias=False)
    average = weight_average(model, 0.8)
    expected = None
    for value in (1.0, 2.0, 5.0):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        expected = value if expected is None else 0.8 * expected + 0.2 * value
    assert average.module.weight.item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="decay must be in"):
        weight_average(model, 1.0)


def test_fit_path_yields_while_it_trains(points):
    model, rng = network(), torch.Generator().manual_seed(0)
    loader = Batches(*points, 32, rng)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    path = fit_path(model, loader, erm, epochs=3, optimizer=sgd, rng=rng, progress=False)
    before = weights(model).clone()
    assert next(path)["epoch"] == 1
    first = weights(model).clone()
    assert not torch.equal(before, first) and next(path)["epoch"] == 2
    assert not torch.equal(first, weights(model))


def test_wrong_labels_stop_training_with_a_clear_error(points):
    x, y = points
    with pytest.raises(ValueError, match=r"y must hold labels 0\.\.1, got 0\.\.3"):
        learn((x, y + (torch.arange(len(y)) == 5) * 2), 1)
