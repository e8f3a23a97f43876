import json
from functools import partial

import pytest
import torch
from torch import nn

from adversarial_lab import data, nets
from adversarial_lab.masking import (
    CHECKS,
    Noisy,
    Probabilities,
    Quantised,
    Scaled,
    adversarial_direction,
    curvature_along,
    gradient,
    gradient_cosine,
    gradient_direction,
    hessian_product,
    linearisation_error,
    loss_slice,
    masking_report,
    orthonormal,
    power_path,
    random_direction,
    taylor,
    top_curvature,
)
from adversarial_lab.masking.evidence import Evidence
from adversarial_lab.masking.report import LIMITS
from adversarial_lab.pgd import cross_entropy, fgsm
from adversarial_lab.threat import ThreatModel


@pytest.fixture
def quadratic(rng):
    """f(x) = x'Ax/2 + b'x + 3 with a symmetric A of mixed signs, and A, b."""
    a = torch.randn(6, 6, generator=rng).double()
    a, b = (a + a.T) / 2, torch.randn(6, generator=rng).double()
    return lambda x: ((x @ a) * x).sum(1) / 2 + x @ b + 3, a, b


@pytest.fixture
def smooth():
    """A small network without kinks, in double."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4)).double()


def dense_hessians(f, x):
    return torch.stack([torch.autograd.functional.hessian(lambda v: f(v[None])[0], r) for r in x])


# --- Section 17.2.1: Eq. (3) ---


@pytest.mark.claim("17.2.1", "Eq. (3) is exact for a quadratic loss")
def test_the_expansion_of_a_quadratic_is_exact(quadratic, rng):
    f, a, b = quadratic
    x, delta = torch.randn(2, 5, 6, generator=rng).double()
    value, first, second = taylor(f, x, delta)
    torch.testing.assert_close(value + first + second, f(x + delta))
    torch.testing.assert_close(second, ((delta @ a) * delta).sum(1) / 2)
    torch.testing.assert_close(linearisation_error(f, x, delta), second.abs())
    torch.testing.assert_close(gradient(f, x), x @ a + b)


@pytest.mark.claim("17.2.1", "the error of Eq. (3) falls with the cube of the perturbation")
def test_the_expansion_is_right_to_third_order(smooth, rng):
    x, delta = torch.randn(2, 5, 6, generator=rng).double()
    f = lambda z: cross_entropy(smooth(z), torch.arange(4).repeat(2)[: len(z)])  # noqa: E731
    errors = [(sum(taylor(f, x, t * delta)) - f(x + t * delta)).abs() for t in (0.02, 0.01)]
    ratio = (errors[0] / errors[1]).detach()
    torch.testing.assert_close(ratio, torch.full((5,), 8.0).double(), rtol=0.1, atol=0)


def test_hessian_products_are_those_of_the_dense_hessian(smooth, rng):
    x, v = torch.randn(2, 4, 6, generator=rng).double()
    f = lambda z: cross_entropy(smooth(z), torch.arange(len(z)) % 4)  # noqa: E731
    one = lambda z: cross_entropy(smooth(z), torch.zeros(1).long())  # noqa: E731
    product = hessian_product(f, x, v)
    dense = dense_hessians(one, x[:1])
    torch.testing.assert_close(product[:1], (dense @ v[:1, :, None]).squeeze(2))
    assert product.shape == x.shape
    along = (v[:1, None] @ dense @ v[:1, :, None]).flatten() / v[0].square().sum()
    torch.testing.assert_close(curvature_along(f, x, v)[:1], along)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_top_curvature_is_the_largest_eigenvalue(smooth, sign, rng):
    """Not the largest in size: with sign -1 the dominant eigenvalue is negative."""
    x = torch.randn(4, 6, generator=rng).double()
    f = lambda z: sign * cross_entropy(smooth(z), torch.zeros(len(z)).long())  # noqa: E731
    exact = torch.linalg.eigvalsh(dense_hessians(f, x))[:, -1]
    value, v = top_curvature(f, x, steps=400, rng=rng)
    torch.testing.assert_close(value, exact, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(curvature_along(f, x, v), value, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(v.norm(dim=1), torch.ones(4).double())


def test_power_iteration_climbs_for_a_positive_hessian(quadratic, rng):
    _, a, _ = quadratic
    f = lambda x: ((x @ (a @ a)) * x).sum(1) / 2  # noqa: E731
    values = torch.stack([v for v, _ in power_path(f, torch.zeros(1, 6).double(), rng=rng)])
    assert (values.diff(dim=0) >= -1e-9).all() and len(values) == 30


@pytest.mark.claim("17.2.1", "logits of a ReLU network have a zero Hessian almost everywhere")
def test_relu_logits_do_not_curve_but_their_cross_entropy_does(rng):
    r"""The loss curves through the softmax alone: $J^\top(\mathrm{diag}(p)-pp^\top)J$."""
    model = nets.mnist_cnn().double()
    x = torch.rand(3, 1, 28, 28, generator=rng).double()
    v = torch.randn(3, 1, 28, 28, generator=rng).double()
    for k in range(10):
        assert hessian_product(lambda z, k=k: model(z)[:, k], x, v).abs().max() == 0
    y = torch.tensor([3, 1, 4])
    product = hessian_product(lambda z: cross_entropy(model(z), y), x, v)
    _, change = torch.autograd.functional.jvp(model, x, v)
    p = model(x).softmax(1).detach()
    weights = p * change - p * (p * change).sum(1, keepdim=True)
    expected = gradient(lambda z: (model(z) * weights.detach()).sum(1), x)
    torch.testing.assert_close(product, expected)
    assert product.abs().max() > 0


def test_cosine_and_linearisation_of_a_linear_loss(rng):
    w, x = torch.randn(8, generator=rng), torch.rand(5, 8, generator=rng)
    threat = ThreatModel(norm="linf", eps=0.1)
    f = lambda z: z @ w  # noqa: E731
    torch.testing.assert_close(gradient_cosine(f, x, threat, rng), torch.ones(5))
    assert linearisation_error(f, x, 0.1 * w.expand(5, 8)).max() < 1e-5
    assert top_curvature(f, x, rng=rng)[0].abs().max() == 0
    flat = lambda z: (0 * z).round().sum(1) + 1  # noqa: E731
    assert gradient_cosine(flat, x, threat, rng).abs().max() == 0
    constant = lambda z: torch.ones(len(z))  # no graph at all  # noqa: E731
    assert gradient(constant, x).abs().max() == hessian_product(constant, x, x).abs().max() == 0
    tiny = gradient_direction(lambda z: 1e-30 * (z @ w), x)
    torch.testing.assert_close(tiny.norm(dim=1), torch.ones(5))


# --- Section 17.2.2: slices ---


def test_two_directions_become_orthonormal(rng, unchecked):
    u, v = torch.randn(2, 4, 1, 7, 7, generator=rng)
    a, b = orthonormal(u, u + 1e-3 * v)
    flat = torch.stack([a, b], 1).flatten(2).double()
    torch.testing.assert_close(
        flat @ flat.mT, torch.eye(2).double().expand(4, 2, 2), atol=1e-5, rtol=0
    )
    assert ((a * u).flatten(1).sum(1) > 0).all()
    for bad in (2 * u, torch.zeros_like(u)):
        with pytest.raises(ValueError, match="must span a plane; for example 0"):
            orthonormal(u, bad)
    with pytest.raises(ValueError, match="one shape"):
        orthonormal(u, v[:2])


def test_a_slice_is_the_loss_at_every_point_of_the_plane(rng):
    x, u, v = torch.rand(3, 1, 2, 3, generator=rng)
    u, v = orthonormal(u, v)
    f = lambda z: (3 * z).sin().flatten(1).sum(1)  # noqa: E731
    values = loss_slice(f, x, u, v, radius=0.5, resolution=5, batch_size=7)
    axis = [-0.5, -0.25, 0.0, 0.25, 0.5]
    direct = torch.tensor([[f(x + a * u + b * v).item() for b in axis] for a in axis])
    torch.testing.assert_close(values, direct)
    assert values[2, 2].item() == pytest.approx(f(x).item())
    boxed = loss_slice(f, x, u, v, radius=0.5, resolution=5, box=(0.0, 1.0))
    assert boxed[4, 4].item() == pytest.approx(f((x + u / 2 + v / 2).clamp(0, 1)).item())
    with pytest.raises(ValueError, match="must be orthonormal"):
        loss_slice(f, x, u, u + v, radius=0.5)
    with pytest.raises(ValueError, match="radius > 0, got 41 and 0"):
        loss_slice(f, x, u, v, radius=0)


def test_directions_have_unit_length_and_a_dead_gradient_has_none(rng):
    x, w = torch.rand(4, 9, generator=rng), torch.randn(9, generator=rng)
    threat = ThreatModel(norm="linf", eps=0.2, box=None)
    f = lambda z: z @ w  # noqa: E731
    torch.testing.assert_close(gradient_direction(f, x), (w / w.norm()).expand(4, 9))
    found = adversarial_direction(f, x, threat, rng=rng)
    torch.testing.assert_close(found, (w.sign() / 3).expand(4, 9), atol=0.02, rtol=0)
    torch.testing.assert_close(random_direction(x, rng).norm(dim=1), torch.ones(4))
    with pytest.raises(ValueError, match="gradient is zero for 4 of 4 examples"):
        gradient_direction(lambda z: z.round().sum(1), x)


# --- Section 17.2.3: the report ---


LINF = ThreatModel(norm="linf", eps=0.3)


@pytest.fixture(scope="module")
def digits():
    return data.load("mnist-mini", "test", 30)


def report(model, digits, threat=LINF, **settings):
    return masking_report(model, digits.x, digits.y, threat, queries=100, **settings)


def bend(name, digits):
    """Linearisation error of one step from a random point, and top curvature at the FGSM point."""
    model, rng = nets.shipped(name), torch.Generator().manual_seed(0)
    f = lambda z: cross_entropy(model(z), digits.y)  # noqa: E731
    start = LINF.sample(digits.x, rng)
    error = linearisation_error(f, start, fgsm(f, start, LINF) - start)
    top, _ = top_curvature(f, fgsm(f, digits.x, LINF), steps=8, rng=rng)
    return error.mean().item(), top.mean().item()


@pytest.mark.claim(
    "17.2.1", "PGD training lowers curvature; a collapsed network lies below the standard one"
)
def test_pgd_training_straightens_the_loss_and_a_collapsed_network_lies_between(digits):
    standard, pgd, collapsed = (bend(f"mnist-{n}", digits) for n in ("standard", "pgd", "fgsm"))
    for k in (0, 1):  # linearisation error, top curvature
        assert 3 * pgd[k] < collapsed[k] < standard[k]


@pytest.mark.claim("17.2.3", "robustness against one step is no robustness")
def test_the_collapsed_network_stands_against_one_step_and_falls_to_many():
    record = nets.shipped_record("mnist-fgsm")
    metrics = {k: m["value"] for k, m in record["metrics"].items()}
    assert metrics["fgsm"] > 0.85 and metrics["pgd-100x10"] < 0.05
    best = max(row["pgd-20"] for row in record["history"])
    assert record["history"][-1]["pgd-20"] < best / 3  # it had been more robust
    assert record["history"][-1]["fgsm"] > 0.85


@pytest.mark.slow
def test_the_collapsed_network_is_flagged(digits):
    found = report(nets.shipped("mnist-fgsm"), digits)
    assert "one step far behind many" in found.flags
    assert found.robust_accuracy < 0.2 < found.accuracy


class Shattered(nn.Module):
    """Twice the sum of the pixels; the gradient has the wrong sign in 7 of 16, drawn anew."""

    rng = torch.Generator().manual_seed(0)

    def forward(self, x):
        if x.requires_grad:
            x = x.clone()
            right = torch.rand(x.shape, generator=self.rng) > 7 / 16
            x.register_hook(lambda g: torch.where(right, g, -g))
        total = x.sum((1, 2, 3))
        return torch.stack([64 - total, total], 1)


def test_an_ascent_that_has_not_arrived_is_still_rising():
    """A gradient that is a little more often right than wrong climbs steadily: 10 steps of 40."""
    x, y = torch.full((20, 1, 8, 8), 0.1), torch.zeros(20).long()
    assert Evidence(Shattered(), x, y, LINF).still_rising == pytest.approx(0.25, abs=0.05)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        linear[1].weight.copy_(torch.stack([-torch.ones(64), torch.ones(64)]))
        linear[1].bias.copy_(torch.tensor([64.0, 0.0]))
    assert Evidence(linear, x, y, LINF).still_rising == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_unbounded_attack_may_go_to_every_corner_of_the_box(norm, rng):
    """Two classes, boundary at the far end: only a budget of the whole box turns black to white."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([-torch.ones(9), torch.ones(9)]))
        model[1].bias.copy_(torch.tensor([8.9, -8.9]))  # wrong from a sum of 8.9 pixels on
    x, y = torch.zeros(4, 3, 3), torch.zeros(4).long()
    evidence = Evidence(model, x, y, ThreatModel(norm=norm, eps=0.1))
    assert evidence.unbounded == 0
    assert Evidence(Quantised(model, 2), x, y, ThreatModel(norm=norm, eps=0.1)).unbounded == 1


HONEST = ["mnist-standard", "mnist-pgd"]


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_network_has_no_flag(name, digits):
    found = report(nets.shipped(name), digits)
    assert found.flags == () and found.dead == ""
    assert "No sign of masking (30 images, linf 0.3)" in str(found)


MASKS = {
    "quantised": (Quantised, {"zero gradients", "gradient cosine", "only noise breaks it"}),
    "scaled": (Scaled, {"zero gradients", "margin beats cross-entropy"}),
    "noisy": (partial(Noisy, sigma=0.3), {"same answer twice"}),
    "probabilities": (Probabilities, {"probabilities, not logits"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.claim("17.2.3", "a robust evaluation verifies that gradients remain informative")
def test_a_mask_around_the_standard_network_is_flagged(name, digits):
    torch.manual_seed(0)
    mask, flags = MASKS[name]
    found = report(mask(nets.shipped("mnist-standard")), digits)
    assert flags <= set(found.flags)
    assert f"{len(found.flags)} sign" in found.summary


@pytest.mark.parametrize(
    ("fill", "why"), [(torch.nan, "30 outputs hold NaN or inf"), (0.0, "the same for every image")]
)
def test_a_dead_network_is_not_attacked(fill, why, digits):
    model = nets.mnist_cnn()
    for parameter in model.parameters():
        parameter.data.fill_(fill)
    found = report(model, digits)
    assert why in found.dead and found.robust_accuracy is None
    assert {f.verdict for f in found.findings} == {"not run"}
    assert "Dead model" in str(found) and json.loads(found.to_json())["dead"] == found.dead


def test_a_network_that_is_always_wrong_is_dead(digits):
    model = nets.shipped("mnist-standard")
    wrong = data.Dataset(digits.x, (model(digits.x).argmax(1) + 1) % 10, "mnist-mini", "test")
    assert report(model, wrong).dead == "no image is classified right"


@pytest.mark.slow
def test_a_network_with_one_answer_to_everything_is_dead(digits):
    """Its logits differ from image to image, its answer does not: nothing there to attack."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    model[1].bias.data[7] = 100.0
    assert (
        report(model, digits).dead
        == "every image is taken for class 7, in a batch of several classes"
    )
    sevens = digits.y == 7
    one_class = data.Dataset(digits.x[sevens], digits.y[sevens], "mnist-mini", "test")
    assert report(model, one_class).dead == ""


def test_a_network_whose_gradients_are_nan_is_dead(digits):
    standard = nets.shipped("mnist-standard")
    broken = lambda x: standard(x) + (0 * x).sqrt().sum((1, 2, 3))[:, None]  # noqa: E731

    class Broken(nn.Module):
        def forward(self, x):
            return broken(x)

    found = report(Broken(), digits)
    assert found.dead == "30 of 30 gradients hold NaN or inf" and found.accuracy > 0.9


def test_a_certificate_that_an_attack_contradicts_is_flagged(digits):
    model = nets.shipped("mnist-standard")
    threat = ThreatModel(norm="linf", eps=0.2)
    found = report(model, digits, threat, certified=torch.ones(30, dtype=torch.bool))
    assert found.flags == ("certified above empirical",)
    none = report(model, digits, threat, certified=torch.zeros(30, dtype=torch.bool))
    assert none.flags == () and none.findings[-1].verdict == "ok"


def test_the_report_as_text_table_and_json(digits):
    found = report(nets.shipped("mnist-standard"), digits)
    bundle = found._repr_mimebundle_()
    for form in (str(found), bundle["text/html"], found.to_json()):
        assert LIMITS in " ".join(form.split()) and all(check.name in form for check in CHECKS)
    assert bundle["text/plain"] == str(found)
    lines = str(found).splitlines()
    assert lines[1].split("  ")[0] == "verdict" and max(map(len, lines)) <= 100
    for check, line in zip(CHECKS, lines[2:], strict=False):  # one line per check
        assert check.name in line and check.source in line and f" {check.threshold:g}" in line
    table = bundle["text/html"]
    assert table.count('<th scope="row">') == len(CHECKS) and "<caption " in table
    saved = json.loads(found.to_json())
    assert [f["name"] for f in saved["findings"]] == [c.name for c in CHECKS]
    assert saved["flags"] == [] and saved["findings"][-1]["value"] is None
    cosine = next(f for f in saved["findings"] if f["name"] == "gradient cosine")
    assert cosine["flag_if"] == "< 0.1" and cosine["value"] > cosine["threshold"]
    assert all(check.source and check.meaning for check in CHECKS)


def test_the_report_leaves_the_network_as_it_was_and_repeats_itself(digits):
    model = nets.shipped("mnist-standard").train()
    first, again = report(model, digits), report(model, digits)
    assert first == again
    assert model.training and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantised(nn.Identity(), levels=1), "levels must be >= 2, got 1"),
        (lambda: Scaled(nn.Identity(), 0.0), "factor must be > 0, got 0"),
        (lambda: Noisy(nn.Identity(), -1.0), "sigma must be >= 0"),
        (lambda: next(power_path(lambda z: z.sum(1), torch.ones(1, 2), steps=0)), "steps must be"),
        (lambda: gradient(lambda z: z.sum(), torch.ones(2, 2)), r"shape \(2,\), got \(\)"),
    ],
)
def test_bad_settings_are_refused(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.full((3, 1, 28, 28), 2.0)}, "x must lie in the box"),
        ({"y": torch.zeros(2).long()}, "one label per example, got 2 for 3"),
        ({"y": torch.full((3,), 10)}, r"labels 0\.\.9, got 10\.\.10"),
        ({"y": torch.zeros(3)}, "integer labels"),
        ({"model": nn.Flatten(0)}, r"logits of shape \(n, k\) for 3 labels"),
        (
            {"certified": torch.ones(3)},
            r"certified must be bool of shape \(3,\), got torch.float32",
        ),
        ({"certified": torch.ones(2) > 0}, r"got torch.bool of shape \(2,\)"),
    ],
)
def test_a_report_on_input_that_makes_no_sense_is_refused(change, message, unchecked):
    given = {"model": nets.mnist_cnn(), "x": torch.full((3, 1, 28, 28), 0.5)}
    given |= {"y": torch.zeros(3).long(), "threat": LINF, **change}
    with pytest.raises(ValueError, match=message):
        masking_report(**given)
