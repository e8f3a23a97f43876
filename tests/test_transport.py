"""Section 17.6: conflicts, the optimal plan, the classifier and attack that attain its value."""

import itertools
import os

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from scipy.stats import norm as normal

from adversarial_lab import data, nets, transport
from adversarial_lab.pgd import attack_model
from adversarial_lab.runs import overlap
from adversarial_lab.runs.record import Job
from adversarial_lab.threat import GEOMETRIES, ThreatModel
from adversarial_lab.transport import (
    SOLVERS,
    class_weights,
    conflicts,
    divergence,
    merged,
    optimal_classifier,
    optimal_plan,
    optimal_risk,
    risk_bracket,
    risk_on_the_line,
    risk_when_merged,
)

METRIC = {"linf": "chebyshev", "l2": "euclidean", "l1": "cityblock"}
NORMS = sorted(METRIC)
FULL = os.environ.get(data.VARIABLE)


def ball(norm, eps, box=None):
    return ThreatModel(norm=norm, eps=eps, box=box)


def pairs(found):
    return set(zip(found.i.tolist(), found.j.tolist(), strict=True))


def all_pairs(x, labels, norm, eps, whole=False):
    """The definition, by scipy; of bytes in whole numbers."""
    flat = x.flatten(1).double().numpy()
    flat = np.round(flat * 255) if whole else flat
    radius = round(2 * eps * 255, 9) if whole else 2 * eps
    if norm == "l2":
        near = cdist(flat, flat, "sqeuclidean") <= radius**2
    else:
        near = cdist(flat, flat, METRIC[norm]) <= radius
    near &= labels.numpy()[:, None] != labels.numpy()
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(near)), strict=True)}


def cloud(rng, n=60, d=2, classes=2, dtype=torch.float32):
    x = torch.rand(n, d, generator=rng).to(dtype)
    return x, torch.arange(n) % classes


# -- the conflict graph, Section 17.6.4 ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.claim("17.6.6", "neighbourhoods meet if and only if the distance is at most 2 eps")
def test_conflicts_are_the_close_pairs_of_different_labels(norm, dtype, rng):
    x, labels = cloud(rng, n=150, d=3, classes=4, dtype=dtype)
    x, eps = x[:, None], {"linf": 0.1, "l2": 0.15, "l1": 0.2}[norm]
    found = conflicts(x, labels, ball(norm, eps))
    assert len(found) > 100 and pairs(found) == all_pairs(x, labels, norm, eps)
    assert len(pairs(found)) == len(found) and (found.i < found.j).all()
    flat = x.flatten(1).double()
    measured = GEOMETRIES[norm].length(flat[found.i] - flat[found.j]).numpy()
    np.testing.assert_allclose(found.distance, measured, rtol=1e-12)


@pytest.mark.parametrize(("norm", "eps"), [("l2", 3.5), ("l1", 25.0), ("linf", 0.49)])
@pytest.mark.parametrize("name", ["mnist-mini", "cifar-10-mini"])
def test_conflicts_of_images(name, norm, eps):
    x, labels = data.load(name, "train", 300)
    eps = eps / 5 if name == "cifar-10-mini" and norm == "linf" else eps
    eps = eps * 5 if name == "cifar-10-mini" and norm == "l1" else eps
    found = conflicts(x, labels, ball(norm, eps, (0.0, 1.0)))
    assert pairs(found) == all_pairs(x, labels, norm, eps, whole=True)


def planted(norm, steps, rng):
    """A random image and one whose distance is `steps`/255 of the norm, one step less, or more."""
    here = torch.randint(60, 190, (3072,), generator=rng)
    moved = []
    for step in (steps - 1, steps, steps + 1):
        there = here.clone()
        if norm == "linf":
            there[:50] += torch.randint(-5, 6, (50,), generator=rng)
            there[99] = here[99] + step
        elif norm == "l1":
            there[:step] += 1
        else:  # 3-4-5: the squared distance is steps^2 - 1, steps^2 or steps^2 + 1
            there[0] += 3 * steps // 5
            there[1] += 4 * steps // 5
            there[2] += step > steps
            if step < steps:
                there[1] -= 1
        moved.append(there)
    return torch.stack([here, *moved]).float() / 255


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("others", [0, 400])
def test_at_the_threshold_bytes_are_exact(norm, others, rng):
    """Also among bright images, whose squared norms float32 does not hold."""
    steps, groups = 40, 10
    images = [planted(norm, steps, rng) for _ in range(groups)]
    x = torch.cat([*images, torch.ones(others, 3072)])
    labels = torch.tensor([0, 1, 1, 1] * groups + [1] * others)
    found = conflicts(x, labels, ball(norm, steps / 2 / 255, (0.0, 1.0)))
    assert pairs(found) == {(4 * k, 4 * k + step) for k in range(groups) for step in (1, 2)}
    assert found.distance.max() == pytest.approx(steps / 255, rel=1e-15)


@pytest.mark.parametrize("norm", NORMS)
def test_at_the_threshold_floats_touch_in_spite_of_rounding(norm):
    x = torch.tensor([[0.1], [0.3], [0.6], [0.8]], dtype=torch.float64)  # 0.8 - 0.6 > 0.2 in floats
    found = conflicts(x, torch.tensor([0, 1, 0, 1]), ball(norm, 0.3)).within(0.1)
    assert pairs(found) == {(0, 1), (2, 3)}
    found = conflicts(x, torch.tensor([0, 1, 0, 1]), ball(norm, 0.1))
    assert pairs(found) == {(0, 1), (2, 3)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", NORMS)
def test_whole_numbers_that_float32_does_not_hold_are_no_bytes(norm, dtype):
    """65,802 and 65,803 are 255 apart in steps of 1/255, 256 apart when rounded to float32."""
    start = torch.arange(65793, 66200, 2)
    x = torch.stack([start, start + 1], 1).view(-1, 1).to(dtype)
    labels = torch.arange(2).repeat(len(start))
    assert len(conflicts(x, labels, ball(norm, 0.5))) == len(x) - 1
    assert len(conflicts(x, labels, ball(norm, 0.499))) == 0


@pytest.mark.parametrize("unit", [1e-130, 1e-23, 1e-19, 1e18, 1e28])
@pytest.mark.parametrize("norm", NORMS)
def test_the_unit_of_the_data_does_not_matter(norm, unit, rng):
    x, labels = cloud(rng, n=80, dtype=torch.float64)
    known = pairs(conflicts(x, labels, ball(norm, 0.1)))
    assert 20 < len(known) == len(known & pairs(conflicts(unit * x, labels, ball(norm, unit / 10))))
    if 1e-30 < unit:
        few = pairs(conflicts((unit * x).float(), labels, ball(norm, unit / 10)))
        assert few == known
    outlier = torch.cat([unit * x, torch.full((1, 2), 1e29)])
    labels = torch.cat([labels, labels[:1]])
    assert known <= pairs(conflicts(outlier.double(), labels, ball(norm, unit / 10)))


def test_far_from_the_origin_the_screen_still_lets_every_pair_through(rng):
    x, labels = cloud(rng, n=80, dtype=torch.float64)
    for shift in (0.0, 1e3, 1e6):
        found = conflicts(x + shift, labels, ball("l2", 0.1))
        assert pairs(found) == all_pairs(x + shift, labels, "l2", 0.1)
        spread = torch.cat([x + shift, x - shift])  # centring does not help here
        both = torch.cat([labels, labels])
        found = conflicts(spread, both, ball("l2", 0.1))
        assert pairs(found) == all_pairs(spread, both, "l2", 0.1)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.claim("17.6.6", "open balls that touch do not meet: the criterion is for closed ones")
def test_open_balls_that_touch_do_not_meet(closed):
    x, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    found = conflicts(x, labels, ball("l2", 0.5)).within(0.5, closed=closed)
    assert len(found) == closed and optimal_plan(found, labels).risk == closed / 2


def test_a_smaller_eps_is_a_part_of_the_larger_result(rng):
    x, labels = cloud(rng, n=100)
    large = conflicts(x, labels, ball("l2", 0.2))
    for eps in (0.0, 0.03, 0.1, 0.2):
        assert pairs(large.within(eps)) == pairs(conflicts(x, labels, ball("l2", eps)))
    for eps in (-0.1, 0.21, float("nan")):
        with pytest.raises(ValueError, match=r"eps must be in \[0, 0.2\], known here"):
            large.within(eps)


def test_duplicates_with_different_labels_conflict_at_eps_zero():
    x = torch.tensor([[0.3, 0.1]] * 3 + [[0.3, 0.2]])
    labels = torch.tensor([0, 1, 1, 0])
    found = conflicts(x, labels, ball("l2", 0.0))
    assert pairs(found) == {(0, 1), (0, 2)} and optimal_risk(x, labels, ball("l2", 0.0)) == 0.25


def test_small_memory_gives_small_tiles_and_the_same_graph(rng, monkeypatch):
    x, labels = cloud(rng, n=300, d=20, classes=3)
    whole = conflicts(x, labels, ball("l2", 0.5))
    seen = []
    search = transport.neighbours._blocks
    monkeypatch.setattr(
        transport.neighbours, "_blocks", lambda *a: seen.append(search(*a)) or seen[-1]
    )
    part = conflicts(x, labels, ball("l2", 0.5), memory=500_000)
    assert pairs(part) == pairs(whole) and seen[0].rows < 60 and seen[0].chunk < 300
    with pytest.raises(ValueError, match=r"memory=300000 bytes is too small: 300 points need at"):
        conflicts(x, labels, ball("l2", 0.5), memory=300_000)
    with pytest.raises(ValueError, match="too small for the conflicts at eps=2"):
        conflicts(x, labels, ball("l2", 2.0), memory=500_000)


# -- resuming --------------------------------------------------------------------------------------


def test_an_interrupted_search_goes_on_where_it_was(rng, tmp_path, monkeypatch):
    x, labels = cloud(rng, n=200, classes=4)
    threat, strip, done = ball("l2", 0.1), transport.neighbours._strip, []

    def broken(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return strip(*args)

    monkeypatch.setattr(transport.neighbours, "_strip", broken)
    with pytest.raises(KeyboardInterrupt):
        conflicts(x, labels, threat, cache=tmp_path)
    monkeypatch.setattr(transport.neighbours, "_strip", lambda *a: done.append(a) or strip(*a))
    found = conflicts(x, labels, threat, cache=tmp_path)
    assert len(done) == 3  # of three strips, two before and one after
    assert pairs(found) == pairs(conflicts(x, labels, threat))
    done.clear()
    for eps in (0.1, 0.04):  # the whole result is kept, and serves every smaller eps
        again = conflicts(x, labels, ball("l2", eps), cache=tmp_path)
        assert not done and pairs(again) == pairs(found.within(eps))
    assert [p.name for p in tmp_path.rglob("*.npz")] == ["all-0.2.npz"]
    assert len(conflicts(x + 1e-3, labels, threat, cache=tmp_path)) and done  # other data
    other = labels // 2
    assert pairs(conflicts(x, other, threat, cache=tmp_path)) == pairs(conflicts(x, other, threat))


@pytest.mark.parametrize("kind", [int, float, np.float64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_cache_takes_any_number_as_eps_and_any_dtype(kind, dtype, rng, tmp_path):
    x, labels = cloud(rng, n=30, dtype=dtype)
    for eps in (kind(2), kind(1), kind(2)):
        threat = ball("l2", eps)
        found = conflicts(9 * x, labels, threat, cache=tmp_path)
        assert pairs(found) == pairs(conflicts(9 * x, labels, threat))
    assert [p.name for p in tmp_path.rglob("*.npz")] == ["all-4.0.npz"]


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: ((255 * x).byte(), y), r"got torch.uint8: bytes need / 255 first"),
        (lambda x, y: (x, y[:-1]), r"labels must have shape \(6,\), got \(5,\)"),
        (lambda x, y: (x, 0 * y), "at least two classes, got one"),
        (lambda x, y: (x * float("nan"), y), "x must be finite"),
        (lambda x, y: (x + 2, y), r"x must lie in the box \(0.0, 1.0\)"),
    ],
)
def test_points_that_are_no_problem_are_refused(change, message, unchecked, rng):
    x, labels = change(*cloud(rng, n=6))
    with pytest.raises(ValueError, match=message):
        conflicts(x, labels, ThreatModel(norm="l2", eps=0.1))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(6, 0.2), "weights must sum to one, got 1.2"),
        (np.full(5, 0.2), r"weights must have shape \(6,\), got \(5,\)"),
        (np.array([0.5, 0.7, -0.2, 0, 0, 0]), "weights must be finite and >= 0, the least is -0.2"),
        (np.array([np.nan, 1, 0, 0, 0, 0]), "weights must be finite"),
    ],
)
def test_weights_that_are_no_distribution_are_refused(weights, message, unchecked, rng):
    x, labels = cloud(rng, n=6)
    with pytest.raises(ValueError, match=message):
        optimal_risk(x, labels, ball("l2", 0.1), weights)


def test_weights_may_be_a_list_or_of_any_type(unchecked):
    x, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    for weights in ([0.25, 0.75], torch.tensor([0.25, 0.75]), np.array([0.25, 0.75], np.float32)):
        assert optimal_risk(x, labels, ball("l2", 0.5), weights) == 0.25
    assert optimal_risk(x, labels, ball("l2", 0.5), np.array([1, 0])) == 0
    rounded = np.array([0.1, 0.9], np.float32)  # their sum is 0.99999997...
    for weights in (rounded, torch.from_numpy(rounded), rounded.tolist()):
        assert optimal_risk(x, labels, ball("l2", 0.5), weights) == pytest.approx(0.1, abs=1e-8)
    with pytest.raises(ValueError, match=r"weights must sum to one, got 0.99999997"):
        optimal_risk(x, labels, ball("l2", 0.5), [0.1, 0.89999997])


def test_a_huge_eps_is_a_constant_classifier(rng):
    x, labels = cloud(rng, n=9)
    for norm in NORMS:
        assert optimal_risk(x, labels, ball(norm, 1e300)) == pytest.approx(4 / 9)


def test_points_that_span_too_much_are_refused():
    x = torch.tensor([[0.0], [1e200]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"x must span less than 1e\+30, got 1e\+200"):
        conflicts(x, torch.tensor([0, 1]), ball("l2", 1.0))


def test_a_sample_without_points_is_refused(rng):
    x, _ = cloud(rng, n=2)
    with pytest.raises(ValueError, match="x0 and x1 must hold points, got 0 and 2"):
        divergence(x[:0], x, ball("l2", 0.1))


def test_weights_of_one_sample_that_are_no_distribution_are_refused(rng):
    x, _ = cloud(rng, n=6)
    with pytest.raises(ValueError, match="weights1 must sum to one, got 0.6"):
        divergence(x[:3], x[3:], ball("l2", 0.1), None, np.full(3, 0.2))
    with pytest.raises(ValueError, match="priors must sum to one, got 0.8"):
        class_weights(torch.tensor([0, 1, 1]), (0.2, 0.6))


def test_the_plan_refuses_what_is_not_its_problem(unchecked, rng):
    x, labels = cloud(rng, n=6, classes=3)
    found = conflicts(x, labels, ball("l2", 0.2))
    with pytest.raises(ValueError, match=r"labels must name two classes, got \[0, 1, 2\]"):
        optimal_plan(found, labels)
    with pytest.raises(ValueError, match=r"labels must have shape \(6,\), got \(5,\)"):
        optimal_plan(found, labels[:5])
    two = labels.clamp(max=1)
    found = conflicts(x, two, ball("l2", 0.2))
    with pytest.raises(ValueError, match=r"one of \['flow', 'lp', 'matching'\], got 'simplex'"):
        optimal_plan(found, two, solver="simplex")
    uneven = np.array([0.1, 0.2, 0.3, 0.1, 0.1, 0.2])
    with pytest.raises(ValueError, match="solver 'matching' needs equal weights"):
        optimal_plan(found, two, uneven, "matching")
    with pytest.raises(ValueError, match="solver 'flow' needs weights that are multiples"):
        optimal_plan(found, two, np.sqrt(uneven) / np.sqrt(uneven).sum(), "flow")


@pytest.mark.parametrize("unknown", [{"norm": "l3"}, {"eps": float("nan")}, {"eps": -1.0}])
def test_an_unknown_norm_or_radius_is_refused(unknown):
    with pytest.raises(ValueError, match="norm must be one of|eps must be finite and >= 0"):
        ball(**{"norm": "l2", "eps": 0.1, **unknown})


# -- the optimal plan, Sections 17.6.5 and 17.6.6 --------------------------------------------------


def dense_lp(x, labels, norm, eps, weights):
    """The transport problem of 17.6.6 as it stands: all pairs, cost 1 if the balls are disjoint."""
    flat, first = x.flatten(1).double().numpy(), labels.numpy() == 0
    cost = (cdist(flat[first], flat[~first], METRIC[norm]) > 2 * eps).astype(float)
    m, n = cost.shape
    rows, columns = np.kron(np.eye(m), np.ones(n)), np.kron(np.ones(m), np.eye(n))
    p, q = weights[first] / weights[first].sum(), weights[~first] / weights[~first].sum()
    solution = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.r_[p, q])
    return solution.fun, ot.emd2(p, q, cost)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("sizes", [(40, 40), (25, 50)])
@pytest.mark.claim("17.6.5", "for equal priors the optimal risk is (1 - D_N)/2")
def test_divergence_is_the_transport_cost(norm, sizes, rng):
    x = torch.rand(sum(sizes), 2, generator=rng, dtype=torch.float64)
    labels = torch.cat([torch.zeros(sizes[0]), torch.ones(sizes[1])]).long()
    eps = {"linf": 0.04, "l2": 0.045, "l1": 0.06}[norm]
    for weights in (None, np.random.default_rng(0).random(sum(sizes))):
        if weights is None:
            both = [None, None]
            w = class_weights(labels)
        else:
            both = [part / part.sum() for part in np.split(weights, [sizes[0]])]
            w = np.concatenate(both) / 2
        d_n = divergence(x[: sizes[0]], x[sizes[0] :], ball(norm, eps), *both)
        lp, emd = dense_lp(x, labels, norm, eps, w)
        assert 0.1 < d_n < 0.9
        assert d_n == pytest.approx(lp, abs=1e-9) == pytest.approx(emd, abs=1e-9)
        assert optimal_risk(x, labels, ball(norm, eps), w) == pytest.approx(
            (1 - d_n) / 2, abs=1e-12
        )


def best_hard_classifier(found, labels, weights):
    """Every way of giving points up, for a handful of points: the least weight without conflict."""
    best = 1.0
    for kept in itertools.product([False, True], repeat=found.n):
        if not any(kept[i] and kept[j] for i, j in pairs(found)):
            best = min(best, sum(w for w, keep in zip(weights, kept, strict=True) if not keep))
    return best


@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
@settings(max_examples=25, deadline=None)
@pytest.mark.claim("17.6.5", "no hard classifier does better, also with unequal priors")
def test_the_optimal_risk_is_that_of_the_best_hard_classifier(seed, prior):
    rng = torch.Generator().manual_seed(seed)
    x, labels = cloud(rng, n=9)
    found = conflicts(x, labels, ball("l2", 0.15))
    w = class_weights(labels, (prior, 1 - prior))
    plan = optimal_plan(found, labels, w)
    assert plan.risk == pytest.approx(best_hard_classifier(found, labels, w), abs=1e-12)
    assert plan.risk <= min(prior, 1 - prior) + 1e-12


@pytest.mark.parametrize("eps", [0.0, 0.05, 0.1, 0.2, 1.5])
@pytest.mark.parametrize("weighting", ["equal", "priors", "units", "any"])
def test_every_solver_has_the_same_value_and_a_certificate(weighting, eps, rng):
    x, labels = cloud(rng, n=90)
    labels = (torch.arange(90) % 3 == 0).long()
    draw = np.random.default_rng(1).integers(0, 5, 90)
    weights = {
        "equal": np.full(90, 1 / 90),
        "priors": class_weights(labels, (0.3, 0.7)),
        "units": draw / draw.sum(),
        "any": (w := np.random.default_rng(2).random(90)) / w.sum(),
    }[weighting]
    usable = {"equal": sorted(SOLVERS), "any": ["lp"]}.get(weighting, ["flow", "lp"])
    found = conflicts(x, labels, ball("l2", eps))
    risks = []
    for plan in (optimal_plan(found, labels, weights, s) for s in [*usable, None]):
        sent = sum(np.bincount(side, plan.mass, 90) for side in (plan.i, plan.j))
        assert (sent <= weights + 1e-12).all() and (plan.mass > 0).all()
        assert (labels[plan.i] == 0).all() and (labels[plan.j] == 1).all()
        directed = {(min(p), max(p)) for p in zip(plan.i.tolist(), plan.j.tolist(), strict=True)}
        assert directed <= pairs(found)
        assert not (~plan.given_up[found.i] & ~plan.given_up[found.j]).any()
        assert plan.mass.sum() == pytest.approx(weights[plan.given_up].sum(), abs=1e-12)
        risks.append(plan.risk)
    assert np.ptp(risks) < 1e-12
    if eps == 1.5:
        assert risks[0] == pytest.approx(
            min(weights[labels == 0].sum(), weights[labels == 1].sum())
        )


@pytest.mark.parametrize("concentration", [0.1, 1.0])
def test_many_small_weights_are_solved_to_rounding(concentration, rng):
    x, labels = cloud(rng, n=4000)
    w = np.random.default_rng(0).dirichlet(np.full(4000, concentration))
    plan = optimal_plan(conflicts(x, labels, ball("l2", 0.02)), labels, w)
    sent = sum(np.bincount(side, plan.mass, 4000) for side in (plan.i, plan.j))
    assert (sent <= w + 1e-12).all() and plan.risk > 0.2
    assert plan.risk == pytest.approx(w[plan.given_up].sum(), abs=1e-9)


def test_a_solver_that_is_not_optimal_is_found_out(rng, monkeypatch):
    x, labels = cloud(rng, n=40)
    found = conflicts(x, labels, ball("l2", 0.1))
    monkeypatch.setitem(SOLVERS, "matching", lambda i, j, w: np.zeros(len(i)))
    with pytest.raises(RuntimeError, match="solver 'matching' is not optimal: it moves 0"):
        optimal_plan(found, labels)


@pytest.mark.claim("17.6.6", "D_N is called a divergence, but it is none and no metric")
def test_d_n_is_no_divergence():
    eps, threat = 0.1, ball("l2", 0.1)
    a, b, c = (torch.tensor([[k * eps]]) for k in (0.0, 1.5, 3.0))
    assert [divergence(*p, threat) for p in ((a, b), (b, c), (a, c))] == [0, 0, 1]
    assert divergence(b, a, threat) == 0  # different, at divergence zero
    assert divergence(a, a, threat) == 0


@pytest.mark.claim("17.6.6", "without midpoints neighbourhoods at distance 2 eps need not meet")
def test_on_two_points_without_a_middle_the_criterion_is_false():
    space, eps = np.array([0.0, 1.0]), 0.5
    neighbourhoods = [set(space[abs(space - x) <= eps]) for x in space]
    assert not neighbourhoods[0] & neighbourhoods[1]  # and yet |0 - 1| <= 2 eps
    assert divergence(torch.tensor([[0.0]]), torch.tensor([[1.0]]), ball("l2", eps)) == 0  # in R


@pytest.mark.claim("17.6.2", "the optimal robust risk is at least the optimal benign risk")
@pytest.mark.claim("17.6.2", "it need not be strictly larger where neighbourhoods overlap")
def test_the_optimal_risk_grows_with_eps_but_not_always(rng):
    x, labels = cloud(rng, n=60)
    found = conflicts(x, labels, ball("l2", 0.8))
    risks = [optimal_plan(found.within(eps), labels).risk for eps in np.linspace(0, 0.8, 9)]
    assert risks[0] == 0 and risks[-1] == 0.5 and (np.diff(risks) >= 0).all()
    same = torch.cat([x, x])  # P0 = P1: nothing is left to lose
    twice = torch.arange(2).repeat_interleave(60)
    assert [optimal_risk(same, twice, ball("l2", eps)) for eps in (0.0, 0.1)] == [0.5, 0.5]


@pytest.mark.claim("17.6.4", "if neighbourhoods of two classes meet, one of the points is lost")
def test_two_points(rng):
    x, labels = torch.tensor([[0.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 1])
    assert optimal_risk(x, labels, ball("l2", 0.4999)) == 0
    assert optimal_risk(x, labels, ball("l2", 0.5)) == 0.5
    assert optimal_risk(x, labels, ball("l2", 0.5), np.array([0.9, 0.1])) == pytest.approx(0.1)


# -- the published protocol ------------------------------------------------------------------------


@pytest.mark.skipif(not FULL, reason=f"needs the full data sets in {data.VARIABLE}")
@pytest.mark.claim("17.6.5", "MNIST 3 vs 7, 200 a class: sizes of the maximum matching")
def test_mnist_matchings_of_the_published_protocol():
    x, labels = digits("mnist", 200)
    found = conflicts(x, labels, ball("l2", 5.0, (0.0, 1.0)))
    sizes = [len(optimal_plan(found.within(3 + k / 4), labels).i) for k in range(9)]
    assert sizes == [1, 4, 14, 21, 44, 77, 120, 159, 183]


@pytest.mark.skipif(not FULL, reason=f"needs the full data sets in {data.VARIABLE}")
def test_at_the_usual_linf_radii_the_bound_is_zero():
    x, labels = digits("mnist", 1000)
    assert optimal_risk(x, labels, ball("linf", 0.3, (0.0, 1.0))) == 0
    x, labels = digits("cifar-10", 500)
    assert optimal_risk(x, labels, ball("linf", 8 / 255, (0.0, 1.0))) == 0


def digits(name, n, split="train"):
    """The first n images of classes 3 and 7."""
    x, labels = data.load(name, split)
    rows = torch.cat([(labels == k).nonzero()[:n, 0] for k in (3, 7)])
    return x[rows], labels[rows]


# -- the attack and the classifier -----------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_merged_points_lie_in_both_neighbourhoods_and_the_box(norm, rng):
    x, labels = cloud(rng, n=200, d=3)
    threat = ball(norm, 0.1, (0.0, 1.0))
    plan = optimal_plan(conflicts(x, labels, threat), labels)
    assert len(plan.i) > 20
    for side in (plan.i, plan.j):
        assert threat.contains(x[side], merged(x, plan)).all()


@pytest.mark.parametrize("priors", [None, (0.5, 0.5), (0.2, 0.8)])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.claim("17.6.6", "no classifier has a robust risk below (1 - D_N)/2")
def test_every_classifier_loses_the_optimal_risk_to_the_merging_attack(norm, priors, rng):
    x, labels = cloud(rng, n=120)
    threat = ball(norm, 0.05, (0.0, 1.0))
    w = None if priors is None else class_weights(labels, priors)
    plan = optimal_plan(conflicts(x, labels, threat), labels, w)
    assert plan.risk > 0.05
    risks = [
        risk_when_merged(predict, x, labels, plan, w)
        for predict in (
            lambda z: torch.zeros(len(z), dtype=torch.long),
            lambda z: torch.ones(len(z), dtype=torch.long),
            lambda z: torch.cdist(z, x).argmin(1) % 2,  # the nearest neighbour, clean risk 0
            lambda z: torch.randint(0, 2, (len(z),), generator=rng),
            lambda z: (z.sum(1) > 1).long(),
        )
    ]
    assert min(risks) >= plan.risk - 1e-12
    best = risk_when_merged(
        optimal_classifier(x, labels, plan.given_up, threat), x, labels, plan, w
    )
    assert best == pytest.approx(plan.risk, abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.claim("17.6.5", "the bound is attained: giving up a smallest cover is optimal")
def test_the_optimal_classifier_is_right_everywhere_around_what_it_keeps(norm, rng):
    x, labels = cloud(rng, n=80, dtype=torch.float64)
    threat = ball(norm, 0.06)
    plan = optimal_plan(conflicts(x, labels, threat), labels)
    predict = optimal_classifier(x, labels, plan.given_up, threat)
    kept = torch.from_numpy(~plan.given_up)
    x, labels = x[kept], labels[kept]
    for _ in range(200):
        assert torch.equal(predict(threat.sample(x, rng)), labels)
    nearest = x[torch.cdist(x, x).topk(10, largest=False).indices]  # towards each neighbour
    for k in range(1, 10):
        direction = nearest[:, k] - x
        length = GEOMETRIES[norm].length(direction)[:, None]
        z = x + direction * (threat.eps * (1 - 1e-9) / length)
        assert torch.equal(predict(z), labels)


def test_the_optimal_classifier_has_an_answer_everywhere(rng):
    x, labels = cloud(rng, n=10)
    labels = labels + 3
    predict = optimal_classifier(x, labels, np.zeros(10, bool), ball("l2", 0.01))
    assert torch.equal(predict(x + 1e-4), labels)
    assert set(predict(100 * torch.rand(50, 2, generator=rng)).tolist()) <= {3, 4}
    with pytest.raises(ValueError, match="given_up must leave at least one point"):
        optimal_classifier(x, labels, np.ones(10, bool), ball("l2", 0.01))


@pytest.mark.parametrize("name", ["mnist-standard", "mnist-pgd"])
@pytest.mark.claim("17.6.5", "a trained network never goes below the bound (Figure 17.4)")
def test_trained_networks_stay_above_the_bound(name, rng):
    x, labels = digits("mnist-mini", 60)
    threat = ball("l2", 4.25, (0.0, 1.0))
    plan = optimal_plan(conflicts(x, labels, threat), labels)
    two = torch.nn.Sequential(nets.shipped(name), Columns(3, 7))
    bits = (labels == 7).long()
    fallen = attack_model(two, x, bits, threat, steps=10, rng=rng).fooled.numpy()
    middle = two(merged(x, plan)).argmax(1)
    for side in (plan.i, plan.j):
        fallen[side] |= (middle != bits[side]).numpy()
    assert 0.05 < plan.risk <= fallen.mean() + 1e-12


class Columns(torch.nn.Module):
    """The logits of two classes."""

    def __init__(self, *columns):
        super().__init__()
        self.columns = list(columns)

    def forward(self, logits):
        return logits[:, self.columns]


# -- the line --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_greedy_plan_on_the_line_is_optimal(weighted):
    rng = np.random.default_rng(0)
    for eps in (0.0, 0.02, 0.1, 0.3):
        x0, x1 = rng.normal(0, 1, 40), rng.normal(0.5, 0.7, 60)
        x0[:5] = x1[:5]  # ties
        w = rng.random(100) if weighted else np.full(100, 0.01)
        w = w / w.sum()
        x = torch.from_numpy(np.concatenate([x0, x1]))[:, None]
        labels = torch.cat([torch.zeros(40), torch.ones(60)]).long()
        known = optimal_risk(x, labels, ball("l2", eps), w)
        assert risk_on_the_line(x0, x1, eps, (w[:40], w[40:])) == pytest.approx(known, abs=1e-12)


@pytest.mark.parametrize("eps", [0.05, 0.2, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@pytest.mark.claim("17.6.5", "the Gaussian risk of 17.6.3 is (1 - D_N)/2, capped at 1/2")
def test_on_the_line_the_plan_gives_the_gaussian_risk(eps, sigma):
    known = min(0.5, normal.cdf((2 * eps - 2) / (2 * sigma)))  # mu = -1 and 1
    low, high = risk_bracket(normal(-1, sigma).ppf, normal(1, sigma).ppf, eps, cells=4000)
    assert low <= known <= high + 1e-12 and high - low < 1e-3


@pytest.mark.parametrize("prior", [0.1, 0.5, 0.7])
def test_the_bracket_holds_for_unequal_priors(prior):
    """mu = -1 and 1, sigma = 1: the threshold of Section 17.6.3 is known in closed form."""
    for eps in (0.05, 0.3, 0.6, 1.0):
        reach, known = 2 - 2 * eps, min(prior, 1 - prior)
        if reach > 0:
            t = np.log(prior / (1 - prior)) / reach
            wrong = prior * normal.sf(t - eps + 1) + (1 - prior) * normal.cdf(t + eps - 1)
            known = min(known, wrong)
        low, high = risk_bracket(
            normal(-1).ppf, normal(1).ppf, eps, priors=(prior, 1 - prior), cells=4000
        )
        assert low <= known <= high + 1e-12 and high - low < 2e-3


@pytest.mark.parametrize("cells", [1, 7, 1000])
def test_the_bracket_of_two_uniform_distributions(cells):
    """U[0, 1] reaches 1.6 to the right, of U[1.5, 5.5] the part up to 2.6: 1.1/4 of one half."""
    low, high = risk_bracket(lambda p: p, lambda p: 1.5 + 4 * p, 0.8, cells=cells)
    assert low <= 0.1375 <= high and (cells < 1000 or high - low < 2e-3)


@pytest.mark.claim("17.6.5", "samples of two Gaussians reach the Gaussian risk by matching")
def test_matched_samples_approach_the_gaussian_risk():
    rng, eps, n = np.random.default_rng(0), 0.4, 4000
    x0, x1 = rng.normal(-1, 1, n), rng.normal(1, 1, n)
    known = normal.cdf(eps - 1)
    assert risk_on_the_line(x0, x1, eps) == pytest.approx(known, abs=4 * 0.5 / np.sqrt(n))
    x = torch.from_numpy(np.concatenate([x0[:1000], x1[:1000]]))[:, None]
    labels = torch.arange(2).repeat_interleave(1000)
    matched = optimal_risk(x, labels, ball("l2", eps))
    assert matched == pytest.approx(risk_on_the_line(x0[:1000], x1[:1000], eps), abs=1e-12)


def test_the_line_refuses_what_is_no_sample(unchecked):
    x = np.array([0.0, 1.0])
    with pytest.raises(ValueError, match="x0, x1 and eps >= 0 must be finite, got eps=-1"):
        risk_on_the_line(x, x, -1.0)
    with pytest.raises(ValueError, match="must be finite"):
        risk_on_the_line(x * np.nan, x, 1.0)
    with pytest.raises(ValueError, match="weights must sum to one"):
        risk_on_the_line(x, x, 1.0, (x, x))
    with pytest.raises(ValueError, match="weights must have 2 and 1 entries, got 1 and 2"):
        risk_on_the_line(x, x[:1], 1.0, (x[:1], x))
    for none in (x[:0], x[:, None]):
        with pytest.raises(ValueError, match="x0 and x1 must be one or more numbers"):
            risk_on_the_line(x, none, 1.0)
    for k, pair in enumerate([(lambda p: p * np.nan, normal.ppf), (normal.ppf, lambda p: -p)]):
        with pytest.raises(ValueError, match=f"quantile{k} must not decrease"):
            risk_bracket(*pair, 0.1)
    with pytest.raises(ValueError, match="priors must sum to one"):
        risk_bracket(normal.ppf, normal.ppf, 0.1, priors=(0.5, 0.6))
    with pytest.raises(ValueError, match="cells must be >= 1 and eps finite and >= 0, got 0"):
        risk_bracket(normal.ppf, normal.ppf, 0.1, cells=0)


# -- the run ---------------------------------------------------------------------------------------


def test_the_run_records_the_curve(tmp_path):
    config = overlap.Config(dataset="mnist-mini", per_class=50, eps_from=3.0, points=5)
    record = overlap.run(config, Job("overlap", "quick", config, tmp_path, progress=False))
    x, labels = digits("mnist-mini", 50)
    assert [row["eps"] for row in record["history"]] == [3.0, 3.5, 4.0, 4.5, 5.0]
    for row in record["history"]:
        threat = ball("l2", row["eps"], (0.0, 1.0))
        assert row["risk"] == optimal_risk(x, labels, threat)
        assert row["risk"] == pytest.approx(row["pairs"] / 100, abs=1e-12)
        assert row["conflicts"] == len(conflicts(x, labels, threat))
    assert record["metrics"]["risk-4.5"] == {"value": record["history"][3]["risk"], "n": 100}
    assert record["data"]["classes"] == (3, 7)
    with pytest.raises(ValueError, match="first and second must be two classes, got 3 twice"):
        overlap.Config(second=3)
