from functools import partial

import pytest
import torch
from torch import nn

from adversarial_lab.attacks import (
    ATTACKS,
    STANDARD,
    along,
    apgd,
    apgd_targets,
    ascent_attack,
    attack_survivors,
    evaluate,
    evaluation_path,
    fab_targets,
    random_signs,
    square,
    standard_evaluation,
    verified_attack,
)
from adversarial_lab.masking import masking_report
from adversarial_lab.pgd import attack_model, cross_entropy, fgsm, pgd
from adversarial_lab.protocol import Attacked, tf32, trial, verified
from adversarial_lab.threat import ThreatModel

LINF = ThreatModel(norm="linf", eps=0.1)
EVERY = [
    partial(attack_model, steps=3),
    ascent_attack(partial(pgd, steps=3)),
    partial(apgd, steps=5),
    partial(apgd_targets, steps=3, targets=2),
    partial(fab_targets, steps=3, targets=2),
    partial(square, queries=15),
    partial(along, directions=random_signs, radii=1),
]


@pytest.fixture
def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 5))


@pytest.fixture
def images(net, rng):
    x = torch.rand(12, 1, 6, 6, generator=rng)
    return x, net(x).argmax(1)


def linear(w):
    """Two classes, by the sign of w.x."""
    model = nn.Linear(len(w), 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.stack([-w / 2, w / 2]))
    return model


# --- an attack of one's own ---


def downhill(model, x, y, threat, *, rng=None, steps=5):
    """The reader's: gradient steps on the logit of the true class, from x."""
    z = x.clone()
    for _ in range(steps):
        z.requires_grad_()
        (g,) = torch.autograd.grad(model(z).gather(1, y[:, None]).sum(), z)
        z = threat.project(x, threat.step(z.detach(), -g, threat.eps / 2))
    return z


def test_an_attack_of_ones_own_runs_beside_ours(net, images):
    x, y = images
    stages = evaluate(net, x, y, LINF, ["fgsm", downhill, partial(attack_model, steps=5)])
    assert [s.name for s in stages] == ["clean", "fgsm", "downhill", "attack_model"]
    values = [s.found.robust_accuracy for s in stages]
    assert values == sorted(values, reverse=True) and values[0] == 1 > values[-1]
    alone = verified_attack(downhill)(net, x, y, LINF, steps=5)
    assert isinstance(alone, Attacked) and 0 < alone.fooled.sum()
    assert torch.equal(alone.fooled, evaluate(net, x, y, LINF, downhill)[-1].found.fooled)


def test_an_ascent_becomes_an_attack_by_one_lift(rng):
    """On a linear model one step of FGSM is optimal: x falls iff its margin is below eps |w|_1."""
    w, x = torch.randn(9, generator=rng), torch.randn(80, 9, generator=rng)
    threat, model = ThreatModel(norm="linf", eps=0.2, box=None), linear(w)
    y = (x @ w > 0).long()
    falls = (x @ w).abs() < 0.2 * w.abs().sum()
    for ascent in (fgsm, partial(pgd, steps=20)):
        found = ascent_attack(ascent)(model, x, y, threat, rng=rng)
        assert torch.equal(found.fooled, falls) and 10 < falls.sum() < 70
    away = ascent_attack(fgsm, lambda logits, y: -cross_entropy(logits, y))
    assert not away(model, x, y, threat).fooled.any()  # down the loss nothing falls


def test_all_attacks_have_one_signature_and_one_result(net, images):
    x, y = images
    for attack in EVERY:
        found = attack(net, x, y, LINF, rng=torch.Generator().manual_seed(0), batch_size=5)
        assert isinstance(found, Attacked) and not found.natural.any()
        assert torch.equal(verified(net, x, y, found.z, LINF), found.fooled)
        assert LINF.contains(x, found.z).all()


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda model, x, y, threat, rng: x[:1], r"points of x's shape \(12, 1, 6, 6\), got \(1,"),
        (lambda model, x, y, threat, rng: None, "points of x's shape.*got NoneType"),
    ],
)
def test_what_an_attack_returns_is_looked_at(attack, message, net, images):
    with pytest.raises(ValueError, match=message):
        attack_survivors(attack, net, *images, LINF)


def test_only_points_inside_count_and_standing_examples_get_what_was_tried(net, images):
    x, y = images
    far = lambda model, x, y, threat, rng: (x + 0.5).clamp(0, 1)  # noqa: E731
    near = lambda model, x, y, threat, rng: (x + 1e-6).clamp(0, 1)  # noqa: E731
    cheated, tried = (attack_survivors(a, net, x, y, LINF) for a in (far, near))
    assert not cheated.fooled.any() and torch.equal(cheated.z, x)
    assert not tried.fooled.any() and torch.equal(tried.z, (x + 1e-6).clamp(0, 1))


def test_a_network_without_an_answer_is_broken(rng):
    """NaN away from x; argmax would call NaN the largest logit."""

    class Fragile(nn.Module):
        def forward(self, z):
            bad = (z > 0.55).any(1, keepdim=True)
            return torch.where(bad, torch.nan, torch.tensor([[2.0, 0.0]])) + 0 * z[:, :2]

    x, y = torch.full((4, 3), 0.5), torch.zeros(4).long()
    up = lambda model, x, y, threat, rng: x + 0.1  # noqa: E731
    assert attack_survivors(up, Fragile(), x, y, LINF).fooled.all()


# --- an evaluation ---


def test_names_and_callables_may_be_mixed(net, images):
    x, y = (v[:2] for v in images)
    by_name = standard_evaluation(net, x, y, LINF, attacks=("apgd-ce", "apgd-t"))
    assert [s.name for s in by_name] == ["clean", "apgd-ce", "apgd-t"]
    by_dict = evaluate(net, x, y, LINF, {"a": "apgd-ce", "b": partial(square, queries=5)})
    assert [s.name for s in by_dict] == ["clean", "a", "b"]
    assert torch.equal(by_name[1].found.z, by_dict[1].found.z)
    assert [s.name for s in evaluate(net, x, y, LINF, "fgsm")] == ["clean", "fgsm"]


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        (("apgd",), r"callable or among \['apgd-ce', 'apgd-t', 'fab-t', 'square', .*got 'apgd'"),
        (
            (fgsm,),
            r"attack 'fgsm' must be callable as attack\(model, x, y, threat, rng=.*ascent_at",
        ),
        ((attack_model,), "missing a required argument: 'steps'"),
        ((lambda model, x, y, threat: x,), "unexpected keyword argument 'rng'"),
        ((apgd, partial(apgd, steps=3)), r"different names, got \['apgd'\] twice: give a dict"),
    ],
)
def test_attacks_that_cannot_be_run_are_refused_before_any_runs(attacks, message, net, images):
    with pytest.raises(ValueError, match=message):
        next(evaluation_path(net, *images, LINF, attacks))


@pytest.mark.parametrize("classes", [2, 3])
def test_with_few_classes_the_rest_is_run_and_it_is_said_what_was_left_out(classes, rng, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
    x = torch.rand(6, 1, 6, 6, generator=rng)
    y, file = model(x).argmax(1), tmp_path / "evaluation.safetensors"
    attacks = {"apgd-ce": EVERY[2], "apgd-t": STANDARD["apgd-t"], "fab-t": EVERY[4]}
    stages = standard_evaluation(model, x, y, LINF, attacks, checkpoint=file)
    reason = f"the targeted DLR loss needs at least 4 classes, got {classes}"
    assert [s.left_out for s in stages] == ["", "", reason, ""]
    assert str(stages[2]) == f"  apgd-t: left out, {reason}"
    again = standard_evaluation(model, x, y, LINF, attacks, checkpoint=file)
    assert [s.left_out for s in again] == [s.left_out for s in stages]


def test_tables_have_no_square_and_no_attack_at_all_is_an_error(rng):
    model, x = nn.Linear(6, 5), torch.rand(8, 6, generator=rng)
    y = model(x).argmax(1)
    stages = evaluate(model, x, y, LINF, ("fgsm", "square"))
    assert stages[-1].left_out.startswith("x must be images (n, c, h, w) for Square, got shape (")
    with pytest.raises(ValueError, match="x must be images"):
        evaluate(model, x, y, LINF, ("square",))
    l1 = evaluate(model, x, y, ThreatModel(norm="l1", eps=0.5), ("pgd", "apgd-ce", "fab-t"))
    assert [bool(s.left_out) for s in l1] == [False, False, True, True]


@pytest.mark.parametrize("attack", [*ATTACKS, "own"])
def test_when_nothing_stands_robust_accuracy_is_zero(attack, net, images):
    x, y = images
    run = {**ATTACKS, "own": verified_attack(downhill)}[attack]
    found = run(net, x, (y + 1) % 5, LINF)
    assert found.robust_accuracy == 0 and found.natural.all() and torch.equal(found.z, x)
    stages = standard_evaluation(net, x, (y + 1) % 5, LINF, {attack: run, "last": square})
    assert [s.found.robust_accuracy for s in stages] == [0, 0, 0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_takes_images_of_any_size(norm, rng):
    for h, w in [(1, 1), (1, 9), (2, 2), (3, 5), (4, 4), (9, 9), (7, 2), (10, 11)]:
        model = nn.Sequential(nn.Flatten(), nn.Linear(2 * h * w, 5))
        x, threat = torch.rand(3, 2, h, w, generator=rng), ThreatModel(norm=norm, eps=0.3)
        y = model(x).argmax(1)
        found = square(model, x, y, threat, queries=40, rng=rng)
        assert torch.equal(verified(model, x, y, found.z, threat), found.fooled)


# --- precision ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_robust_accuracy_does_not_depend_on_the_precision_of_the_model(dtype, rng):
    """Closed form of a linear model in a box; in bfloat16 8/255 is a few steps of rounding."""
    w, x = torch.randn(30, generator=rng), torch.rand(300, 30, generator=rng)
    threat, model = ThreatModel(norm="linf", eps=8 / 255), nn.Linear(30, 2)
    with torch.no_grad():
        model.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.bias.copy_(torch.stack([w.sum() / 4, -w.sum() / 4]))
    model, x = model.to(dtype), x.to(dtype)
    exact = nn.Linear(30, 2)
    exact.load_state_dict(model.float().state_dict())
    y = exact(x.float()).argmax(1)
    side = (exact.weight[1] - exact.weight[0]).detach() * (1 - 2 * y[:, None])
    worst = (x.float() + threat.eps * side.sign()).clamp(0, 1)
    falls = exact(worst).argmax(1) != y
    clear = exact(worst).diff(dim=1).abs().squeeze(1) > 1e-3
    for found in (
        attack_model(model.to(dtype), x, y, threat, steps=20, rng=rng),
        apgd(model, x, y, threat, steps=20, rng=rng),
    ):
        assert torch.equal(found.fooled[clear], falls[clear]) and 60 < falls.sum() < 240
        assert found.z.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert next(model.parameters()).dtype == dtype


def test_what_autocast_alone_gets_wrong_does_not_count(rng):
    class Low(nn.Module):
        def forward(self, z):
            logits = torch.stack([z.sum(1) + 1e-3, 0 * z[:, 0]], 1) + 100.0
            return logits.bfloat16().float().flip(1) if torch.is_autocast_enabled("cpu") else logits

    x, y = torch.full((4, 3), 0.5), torch.zeros(4).long()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for attack in (partial(attack_model, steps=2), ascent_attack(fgsm), apgd):
            assert attack(Low(), x, y, LINF).robust_accuracy == 1


def test_tf32_is_put_back():
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [p.allow_tf32 for p in places]
    with tf32(True), tf32(False):
        assert [p.allow_tf32 for p in places] == [False, False]
    assert [p.allow_tf32 for p in places] == before


# --- ordinary slips ---

SLIPS = {
    "int32": lambda y: y.int(),
    "uint8": lambda y: y.byte(),
    "column": lambda y: y[:, None],
}


@pytest.mark.parametrize("slip", SLIPS)
def test_labels_of_other_kinds_are_taken(slip, net, images, unchecked):
    x, y = images
    for attack in EVERY:
        wanted, found = (
            attack(net, x, labels, LINF, rng=torch.Generator().manual_seed(0))
            for labels in (y, SLIPS[slip](y))
        )
        assert torch.equal(wanted.fooled, found.fooled)
    if slip == "column":  # a report takes a while
        reports = [masking_report(net, x, v, LINF, queries=5) for v in (y, SLIPS[slip](y))]
        assert reports[0] == reports[1]


def test_boolean_labels_are_two_classes(rng):
    w, x = torch.randn(9, generator=rng), torch.rand(9, 9, generator=rng)
    y = linear(w)(x).argmax(1)
    found = [attack_model(linear(w), x, v, LINF, steps=2) for v in (y, y == 1)]
    assert torch.equal(found[0].natural, found[1].natural) and not found[0].natural.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[0], y[0]), "one label per example, got 1 for 1 examples: a single image"),
        (lambda x, y: (x, y[:3]), "one label per example, got 3 for 12 examples$"),
        (
            lambda x, y: (x, nn.functional.one_hot(y)),
            r"got shape \(12, 5\): of one-hot rows",
        ),
        (lambda x, y: (x, y.float()), "y must be integer labels"),
        (lambda x, y: ((x * 255).byte(), y), "bytes need / 255 first"),
    ],
)
def test_slips_that_cannot_be_guessed_are_named(change, message, net, images, unchecked):
    x, y = change(*images)
    for attack in (*EVERY, partial(standard_evaluation), partial(masking_report)):
        with pytest.raises(ValueError, match=message):
            attack(net, x, y, LINF)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_wherever_they_are_needed(off, net, images):
    x, y = images
    rng = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    for attack in EVERY:
        wanted = attack(net, x, y, LINF, rng=rng())
        with off():
            found = attack(net, x.clone(), y.clone(), LINF, rng=rng())
        assert torch.equal(wanted.fooled, found.fooled) and torch.equal(wanted.z, found.z)
    with off():  # without a gradient anywhere this would find zero gradients
        assert "zero gradients" not in masking_report(net, x.clone(), y, LINF, queries=5).flags


def test_results_carry_no_graph(net, images):
    x, y = images
    x = x.clone().requires_grad_()
    for attack in EVERY:
        found = attack(net, x, y, LINF)
        assert not found.z.requires_grad and not found.fooled.requires_grad
    assert x.grad is None
    with trial(net, x, y, LINF) as t:
        assert not t.clean().z.requires_grad
