from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.stats import kstest

from adversarial_lab import norms as norms_module
from adversarial_lab import threat as threat_module
from adversarial_lab.norms import GEOMETRIES
from adversarial_lab.threat import ThreatModel

norms = pytest.mark.parametrize("norm", sorted(GEOMETRIES))
boxes = pytest.mark.parametrize("box", [None, (0.0, 1.0)])


def case(norm, box, seed, dtype, n=3, shape=(2, 3), far=2.0):
    """A threat, clean points in the box and points to project, some of them far away."""
    rng = torch.Generator().manual_seed(seed)
    eps = float(torch.rand((), generator=rng)) * {"linf": 0.9, "l2": 1.5, "l1": 2.5}[norm]
    x = torch.rand(n, *shape, generator=rng, dtype=dtype)
    z = x + far * torch.randn(x.shape, generator=rng, dtype=dtype)
    return ThreatModel(norm=norm, eps=eps, box=box), x, z


def nearest_in_ball(norm, eps, v):
    """The projection of v onto the eps-ball at 0 by a general convex solver, v' = p - q."""
    d = len(v)
    length = {
        "linf": lambda p, q: eps - np.r_[p, q],
        "l2": lambda p, q: eps**2 - ((p - q) ** 2).sum(keepdims=True),
        "l1": lambda p, q: eps - (p + q).sum(keepdims=True),
    }[norm]
    found = minimize(
        lambda s: ((s[:d] - s[d:] - v) ** 2).sum(),
        np.zeros(2 * d),
        bounds=[(0, 10)] * 2 * d,
        constraints={"type": "ineq", "fun": lambda s: length(s[:d], s[d:])},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return found.x[:d] - found.x[d:]


def nearest_in_ball_and_box(norm, eps, box, x, z):
    """Dykstra's alternating projections; the l1 ball by root finding on its threshold."""

    def into_ball(v):
        if norm == "linf":
            return np.clip(v, -eps, eps)
        if norm == "l2":
            return v * min(1, eps / np.linalg.norm(v))
        excess = lambda t: np.maximum(np.abs(v) - t, 0).sum() - eps  # noqa: E731
        threshold = brentq(excess, 0, np.abs(v).max(), xtol=1e-15) if excess(0) > 0 else 0
        return np.sign(v) * np.maximum(np.abs(v) - threshold, 0)

    p = q = np.zeros_like(x)
    for _ in range(5000):
        ball = x + into_ball(z + p - x)
        p = z + p - ball
        z = np.clip(ball + q, *box)
        q = ball + q - z
    return z


@norms
@boxes
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**20))
@pytest.mark.claim("17.1.1", "the projection is feasible and leaves feasible points alone")
def test_projection_is_feasible_and_idempotent(norm, box, seed):
    threat, x, z = case(norm, box, seed, torch.float64)
    p = threat.project(x, z)
    assert threat.contains(x, p).all()
    torch.testing.assert_close(threat.project(x, p), p, rtol=0, atol=1e-14)
    inside = x + 1e-3 * threat.eps * (p - x)
    torch.testing.assert_close(threat.project(x, inside), inside, rtol=0, atol=1e-15)


@norms
@boxes
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**20), far=st.sampled_from([1e-3, 0.3, 100.0]))
def test_float32_is_off_by_one_rounding_at_most(norm, box, seed, far):
    threat, x, z = case(norm, box, seed, torch.float32, shape=(40,), far=far)
    p = threat.project(x, z)
    exact = threat.project(x.double(), p.double())  # the feasible point next to p
    size = torch.maximum(p.abs(), x.abs()).amax(1, keepdim=True).clamp(min=threat.eps)
    assert ((p - exact).abs() <= torch.finfo(torch.float32).eps * size).all()
    if box is not None:
        assert p.min() >= box[0] and p.max() <= box[1]


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SCALES = {  # of the data: box, and the largest |x|
    "[0, 1]": ((0.0, 1.0), 1.0),
    "[-1, 1]": ((-1.0, 1.0), 1.0),
    "[0, 255]": ((0.0, 255.0), 255.0),
    "normalised": ((-2.117904, 2.64), 2.64),
    "table": (None, 1e4),
    "tiny": (None, 1e-6),
}


def data(scale, dtype, rng, n=6, d=40):
    """Points of this scale in this dtype, walls among them, and a threat of a tenth of it."""
    box, size = SCALES[scale]
    low, high = box or (-size, size)
    x = (low + (high - low) * torch.rand(n, d, generator=rng)).to(dtype)
    x[:, 0], x[:, 1] = low, high
    return x, box, size


def exact_distance(norm, x, z):
    """In rational arithmetic's next best: float64, on differences that float64 holds exactly."""
    v = z.double() - x.double()
    return {"linf": v.abs().amax(1), "l2": v.norm(dim=1), "l1": v.abs().sum(1)}[norm]


@norms
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", SCALES)
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**20), radius=st.sampled_from([0.0, 1e-3, 0.1, 1.0]))
def test_projections_and_starts_lie_in_the_set_in_every_precision(norm, dtype, scale, seed, radius):
    rng = torch.Generator().manual_seed(seed)
    x, box, size = data(scale, dtype, rng)
    threat = ThreatModel(norm=norm, eps=radius * size, box=box)
    for far in (1e-3, 0.1, 3.0):
        z = x + far * size * torch.randn(x.shape, generator=rng)
        p = threat.project(x, z.clamp(-6e4, 6e4).to(dtype))  # float16 ends at 65504
        assert p.dtype == dtype and threat.contains(x, p).all()
    assert threat.contains(x, threat.sample(x, rng)).all()


@norms
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", sorted(set(SCALES) - {"tiny"}))
def test_a_point_is_outside_beyond_the_stated_slack_and_inside_within_it(norm, dtype, scale, rng):
    """z one coordinate away from x, so that the exact distance is one number and no sum."""
    x, box, size = data(scale, dtype, rng)
    unit = torch.finfo(dtype).eps / 2
    for share in (0.01, 0.2):
        z = x.clone()
        z[:, 2] = torch.where(x[:, 2] > x.double().mean(), -share, share) * size + x[:, 2]
        away = exact_distance(norm, x, z)
        rounding = unit * z[:, 2].double().abs()
        for row in range(len(x)):
            eps, slack = away[row].item(), rounding[row].item()
            at = partial(ThreatModel, norm=norm, box=box)
            here = (x[row : row + 1], z[row : row + 1])
            assert at(eps=eps).contains(*here)
            assert at(eps=max(0.0, eps - slack)).contains(*here)
            beyond = (eps - 1.1 * slack) / (1 + 30 * unit)
            assert not at(eps=beyond).contains(*here)


@norms
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_projection_in_low_precision_is_the_exact_one_rounded_once(norm, dtype, rng):
    for scale in SCALES:
        x, box, size = data(scale, dtype, rng)
        walls = None if box is None else (x.min().item(), x.max().item())  # rounded, as x has them
        threat = ThreatModel(norm=norm, eps=0.1 * size, box=walls)
        z = x + (0.3 * size * torch.randn(x.shape, generator=rng)).to(dtype)
        p, exact = threat.project(x, z), threat.project(x.double(), z.double())
        unit = torch.finfo(dtype).eps / 2
        room = unit * (1.01 * exact.abs() + 4 * threat.eps) + torch.finfo(dtype).tiny * unit
        assert ((p.double() - exact).abs() <= room).all(), scale


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_points_a_reader_makes_in_float32_are_accepted(norm, rng):
    """x + clip(delta) and x + eps g / |g| in plain float32, as attacks of other libraries end."""
    for d in (10, 3072, 100_000):
        x, g = torch.rand(5, d, generator=rng), torch.randn(5, d, generator=rng)
        threat = ThreatModel(norm=norm, eps=0.3, box=None)
        delta = g.clamp(-0.3, 0.3) if norm == "linf" else 0.3 * g / g.norm(dim=1, keepdim=True)
        assert threat.contains(x, x + delta).all()


def test_a_swap_of_x_and_z_is_caught_where_z_is_outside_the_box():
    threat = ThreatModel(norm="linf", eps=0.1)
    x, z = torch.full((2, 3), 0.9), torch.full((2, 3), 1.2)
    for method in (threat.project, threat.contains):
        method(x, z)
        with pytest.raises(ValueError, match=r"x must lie in the box.*1\.2.*x comes first, then z"):
            method(z, x)


@pytest.mark.parametrize("eps", [torch.full((3, 1, 1), 0.1), [0.1, 0.2], "0.1", None])
def test_one_radius_for_each_channel_is_refused_with_the_way_out(eps, unchecked):
    with pytest.raises(ValueError, match="eps must be one number.*scaled.*model's forward"):
        ThreatModel(norm="linf", eps=eps)


@pytest.mark.parametrize("box", [(torch.zeros(3), torch.ones(3)), ([0, 0], [1, 1]), 1.0, (0, None)])
def test_one_box_for_each_channel_is_refused_with_the_way_out(box, unchecked):
    with pytest.raises(ValueError, match="box must be"):
        ThreatModel(norm="linf", eps=0.1, box=box)


def test_numbers_of_other_libraries_are_numbers(unchecked):
    plain = ThreatModel(norm="l2", eps=0.5, box=(0.0, 1.0))
    assert ThreatModel(norm="l2", eps=np.float32(0.5), box=np.array([0, 1])) == plain
    assert ThreatModel(norm="l2", eps=torch.tensor(0.5), box=[0, torch.tensor(1)]) == plain
    assert hash(ThreatModel(norm="l2", eps=torch.tensor(0.5))) == hash(plain)


@norms
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**20))
@pytest.mark.claim("17.1.1", "clipping is the exact linf projection, rescaling the exact l2 one")
def test_projection_is_the_nearest_point(norm, seed):
    threat, x, z = case(norm, None, seed, torch.float64, n=1, shape=(5,))
    ours = threat.project(x, z)[0].numpy()
    solver = x[0].numpy() + nearest_in_ball(norm, threat.eps, (z - x)[0].numpy())
    np.testing.assert_allclose(ours, solver, atol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l1"])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**20))
def test_projection_is_the_nearest_point_of_ball_and_box(norm, seed):
    threat, x, z = case(norm, (0.0, 1.0), seed, torch.float64, n=1, shape=(5,))
    ours = threat.project(x, z)[0].numpy()
    best = nearest_in_ball_and_box(norm, threat.eps, (0, 1), x[0].numpy(), z[0].numpy())
    np.testing.assert_allclose(ours, best, atol=1e-6)


@pytest.mark.claim("17.1.1", "l2 ball then box is feasible, not the nearest point")
def test_l2_ball_then_box_is_feasible_but_not_nearest():
    x, z = torch.tensor([[0.9, 0.5]]).double(), torch.tensor([[3.0, 1.5]]).double()
    threat = ThreatModel(norm="l2", eps=0.5)
    ours = threat.project(x, z)
    best = nearest_in_ball_and_box("l2", 0.5, (0, 1), x[0].numpy(), z[0].numpy())
    assert threat.contains(x, ours).all()
    assert (z - ours).norm().item() > np.linalg.norm(z[0].numpy() - best) + 0.05


@norms
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**20), scale=st.sampled_from([1e-38, 1e-30, 1.0, 1e30]))
@pytest.mark.claim("17.1.1", "sign and normalised gradient are steepest: they attain the dual norm")
def test_steepest_attains_the_dual_norm(norm, seed, scale):
    g = torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(seed)) * scale
    v = ThreatModel(norm=norm, eps=1.0, box=None).steepest(g)
    g, v = g.flatten(1).double(), v.flatten(1).double()
    dual = {"linf": g.abs().sum(1), "l2": g.norm(dim=1), "l1": g.abs().amax(1)}[norm]
    torch.testing.assert_close((g * v).sum(1), dual, rtol=1e-5, atol=0)
    length = {"linf": v.abs().amax(1), "l2": v.norm(dim=1), "l1": v.abs().sum(1)}[norm]
    torch.testing.assert_close(length, torch.ones_like(length), rtol=1e-5, atol=0)


@pytest.mark.claim("17.1.1", "the l2 step is undefined at g = 0; a random direction is taken")
def test_l2_step_of_a_zero_gradient_is_a_random_unit_vector(rng):
    threat = ThreatModel(norm="l2", eps=1.0)
    g = torch.zeros(200, 3)
    g[0] = torch.tensor([0.0, 2.0, 0.0])
    v = threat.steepest(g, rng)
    torch.testing.assert_close(v.norm(dim=1), torch.ones(200))
    assert v[0].tolist() == [0, 1, 0]
    assert v[1:].mean(0).norm() < 0.2 and len(v[1:].unique(dim=0)) == 199


def test_an_l1_step_in_a_box_spends_its_length_on_what_can_still_move():
    threat = ThreatModel(norm="l1", eps=1.0)
    z = torch.tensor([[1.0, 0.8, 0.5, 0.5, 0.0]])
    g = torch.tensor([[9.0, 3.0, -2.0, 1.0, 0.0]])  # the steepest pixel is at its wall
    step = threat.step(z, g, 0.6)
    torch.testing.assert_close(step, torch.tensor([[1.0, 1.0, 0.1, 0.5, 0.0]]))
    free = ThreatModel(norm="l1", eps=1.0, box=None).step(z, g, 0.6)
    torch.testing.assert_close(free, z + torch.tensor([[0.6, 0, 0, 0, 0]]))


@norms
def test_a_step_without_a_box_is_steepest(norm, rng):
    threat = ThreatModel(norm=norm, eps=1.0, box=None)
    z, g = torch.randn(2, 4, 3, generator=rng)
    torch.testing.assert_close(threat.step(z, g, 0.3), z + 0.3 * threat.steepest(g))


def test_nothing_needs_double_precision_where_there_is_none(monkeypatch, rng):
    """Apple's MPS has no float64."""
    for module in (threat_module, norms_module):
        monkeypatch.setattr(module, "wide", lambda v: v)
    monkeypatch.setattr(torch.Tensor, "double", None)
    x = torch.rand(5, 6, generator=rng)
    for norm in GEOMETRIES:
        threat = ThreatModel(norm=norm, eps=0.3)
        assert threat.contains(x, threat.project(x, threat.sample(x, rng) * 2)).all()


@norms
@pytest.mark.claim("17.1.1", "a uniform start is uniform in the ball of its norm")
def test_samples_are_uniform_in_the_ball(norm, rng):
    n, d, eps = 20_000, 3, 0.7
    threat = ThreatModel(norm=norm, eps=eps, box=None)
    u = threat.sample(torch.zeros(n, d), rng) / eps
    length = {"linf": u.abs().amax(1), "l2": u.norm(dim=1), "l1": u.abs().sum(1)}[norm]
    assert length.max() <= 1 + 1e-6
    # uniform volume: length^d is uniform in (0, 1), in every orthant alike
    assert kstest((length**d).numpy(), "uniform").pvalue > 0.01
    orthant = ((u > 0) * torch.tensor([1, 2, 4])).sum(1)
    assert orthant.bincount(minlength=8).float().sub(n / 8).abs().max() < 4 * (n / 8) ** 0.5
    # and its shape: the variance of one coordinate, 1/3, 1/(d+2), 2/((d+1)(d+2))
    variance = {"linf": 1 / 3, "l2": 1 / (d + 2), "l1": 2 / ((d + 1) * (d + 2))}[norm]
    torch.testing.assert_close(u.var(0), torch.full((d,), variance), rtol=0.04, atol=0)


@pytest.mark.claim("17.1.1", "a uniform draw from the cube is not an l2 start")
def test_a_start_from_the_cube_leaves_the_l2_ball(rng):
    x, eps = torch.full((50, 784), 0.5), 0.3
    cube = ThreatModel(norm="linf", eps=eps).sample(x, rng)
    ball = ThreatModel(norm="l2", eps=eps).sample(x, rng)
    torch.testing.assert_close(
        (cube - x).norm(dim=1).mean(), torch.tensor(eps * (784 / 3) ** 0.5), rtol=0.01, atol=0
    )
    assert (ball - x).norm(dim=1).max() <= eps * (1 + 1e-6)


@norms
def test_starts_lie_in_the_neighbourhood(norm, rng):
    x = torch.rand(20, 1, 6, 6, generator=rng).round()
    threat = ThreatModel(norm=norm, eps=0.4)
    assert threat.contains(x, threat.sample(x, rng)).all()


def test_contains_refuses_a_point_outside_ball_or_box():
    threat = ThreatModel(norm="linf", eps=0.1)
    x = torch.tensor([[0.05], [0.5], [0.5]])
    assert threat.contains(x, torch.tensor([[-0.01], [0.61], [0.6]])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "l_inf"}, r"norm must be one of \['l1', 'l2', 'linf'\], got 'l_inf'"),
        ({"eps": -0.1}, "eps must be finite and >= 0.*-0.1"),
        ({"eps": float("nan")}, "eps must be finite"),
        ({"eps": 8.0}, "eps=8.0 is wider than the box.*8.0/255"),
        ({"box": (1.0, 0.0)}, "low < high"),
        ({"norm": ["linf"]}, r"norm must be one of.*got \['linf'\]"),
    ],
)
def test_bad_threats_are_refused_by_name_value_and_choices(change, message, unchecked):
    with pytest.raises(ValueError, match=message):
        ThreatModel(**{"norm": "linf", "eps": 0.1, **change})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.uint8), "floating point, got torch.uint8.*255"),
        (torch.zeros(0, 3), "non-empty batch"),
        (torch.zeros(3), "non-empty batch"),
        (torch.tensor([[0.5, float("nan")]]), "finite, got 1 NaN"),
        (torch.tensor([[0.5, float("inf")]]), "finite"),
        (torch.tensor([[0.5, -0.42]]), r"box \(0.0, 1.0\), got \[-0.42, 0.5\]"),
    ],
)
def test_bad_inputs_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        ThreatModel(norm="linf", eps=0.1).check(x)


def test_an_eps_that_covers_the_box_warns():
    with pytest.warns(UserWarning, match="covers the whole box.*8.0/255"):
        ThreatModel(norm="l2", eps=8.0).check(torch.zeros(1, 4))


@pytest.mark.parametrize("norm", sorted(GEOMETRIES))
def test_a_box_of_whole_numbers_is_a_box(norm):
    ThreatModel(norm=norm, eps=0.5, box=(0, 1)).check(torch.rand(2, 3))
