import json
import math
from dataclasses import replace
from functools import partial
from itertools import permutations

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from adversarial_lab import data, nets
from adversarial_lab.cka import (
    FORMS,
    alignment,
    cka,
    cka_path,
    features,
    hsic,
    kernels,
    late_similarity,
    layer_names,
    linear_cka,
    linear_kernel,
    minibatch_cka,
    rbf_cka,
    rbf_kernel,
    similarity,
)
from adversarial_lab.runs import cka as run
from adversarial_lab.runs.record import Job

BOTH = pytest.mark.parametrize("unbiased", [False, True])


def normal(rng, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


def direct_hsic(k, m, unbiased):
    """The two formulas, written out with matrices, in float64."""
    n = len(k)
    one, h = torch.ones(n, dtype=torch.float64), torch.eye(n, dtype=torch.float64) - 1 / n
    if not unbiased:
        return torch.trace(k @ h @ m @ h) / (n - 1) ** 2
    k, m = k - k.diag().diag(), m - m.diag().diag()
    first = torch.trace(k @ m)
    second = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (one @ k @ m @ one)
    return (first + second - third) / (n * (n - 3))


def direct_cka(k, m, unbiased):
    h = partial(direct_hsic, unbiased=unbiased)
    return h(k, m) / (h(k, k) * h(m, m)).sqrt()


def direct_linear(a, b, unbiased=False):
    a, b = a.double(), b.double()
    return direct_cka(a @ a.T, b @ b.T, unbiased)


# -- HSIC ----------------------------------------------------------------------------------------


@BOTH
def test_hsic_is_the_formula(rng, unbiased):
    a, b = normal(rng, 9, 4), normal(rng, 9, 3)
    k, m = a @ a.T + 3, (-torch.cdist(b, b)).exp()
    torch.testing.assert_close(hsic(k, m, unbiased=unbiased), direct_hsic(k, m, unbiased))


def test_hsic_by_hand():
    # two points: HKH = (k11 - 2 k12 + k22)/4 [[1,-1],[-1,1]]; <HKH, HLH> = 4 (2/4)(6/4); n - 1 = 1
    k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    m = torch.tensor([[5.0, 1.0], [1.0, 3.0]])
    assert hsic(k, m).item() == pytest.approx(4 * (2 / 4) * (6 / 4))


@pytest.mark.parametrize("n", [4, 5, 6])
@pytest.mark.claim("17.5", "HSIC_1 is a U-statistic over four different examples")
def test_unbiased_hsic_is_the_mean_over_distinct_quadruples(n, rng):
    a, b = normal(rng, n, 2), normal(rng, n, 2)
    k, m = (-torch.cdist(a, a)).exp(), b @ b.T + 1
    terms = [
        k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(n), 4)
    ]
    torch.testing.assert_close(hsic(k, m, unbiased=True), torch.stack(terms).mean())


@pytest.mark.claim("17.5", "HSIC_1 has no bias: its mean over all samples is the population's HSIC")
def test_the_estimators_of_samples_from_a_finite_population(rng):
    """All 4^4 ordered samples of 4, with replacement, from 4 equally likely points."""
    a, b = normal(rng, 4, 2), normal(rng, 4, 3)
    k, m = a @ a.T, b @ b.T
    truth = direct_hsic(k, m, False) * 9 / 16  # tr(KHLH)/4^2: HSIC of the uniform distribution
    grid = torch.cartesian_prod(*[torch.arange(4)] * 4)

    def mean(unbiased):
        found = [hsic(k[i][:, i], m[i][:, i], unbiased=unbiased) for i in grid]
        return torch.stack(found).mean()

    torch.testing.assert_close(mean(True), truth)
    assert (mean(False) - truth).abs() > 0.1 * truth


# -- CKA: agreement of all the ways to compute it ------------------------------------------------

SHAPES = [(40, 6, 9), (12, 30, 7), (7, 50, 60), (30, 1, 1)]


@BOTH
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "d", "p"), SHAPES)
@pytest.mark.claim("17.5", "CKA from d x d products and from n x n Gram matrices is one number")
def test_both_forms_are_the_direct_formula(n, d, p, form, unbiased, rng, monkeypatch):
    monkeypatch.setattr(kernels, "TILE", 8)  # several tiles and chunks at these sizes
    monkeypatch.setattr(kernels, "CHUNK", 5)
    shared = normal(rng, n, 1)
    a, b = shared + normal(rng, n, d) + 2, shared - 0.5 * normal(rng, n, p)
    found = linear_cka(a, b, form=form, unbiased=unbiased)
    torch.testing.assert_close(found, direct_linear(a, b, unbiased), rtol=1e-9, atol=1e-12)


@BOTH
def test_gram_matrices_give_the_same_number(rng, unbiased):
    a, b = normal(rng, 20, 5), normal(rng, 20, 8)
    from_kernels = cka(linear_kernel(a), linear_kernel(b), unbiased=unbiased)
    torch.testing.assert_close(from_kernels, linear_cka(a, b, unbiased=unbiased))
    torch.testing.assert_close(from_kernels, cka(a @ a.T, b @ b.T, unbiased=unbiased))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 1e-5)])
@pytest.mark.parametrize("form", FORMS)
def test_single_precision_is_enough(form, dtype, tolerance, rng):
    """Against float64 on the same, rounded numbers; with an offset of 30 standard deviations."""
    shared = normal(rng, 600, 10)
    a = (shared @ normal(rng, 10, 50) + 30).to(dtype)
    b = (shared @ normal(rng, 10, 70) + normal(rng, 600, 70) - 30).to(dtype)
    for unbiased in (False, True):
        found = linear_cka(a, b, form=form, unbiased=unbiased)
        assert found.dtype == torch.float64
        expected = direct_linear(a, b, unbiased)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_the_cheaper_form_is_chosen(monkeypatch, rng):
    taken = []
    for name in FORMS:
        monkeypatch.setitem(alignment.FORMS, name, partial(record, taken, name, FORMS[name]))
    linear_cka(normal(rng, 60, 4), normal(rng, 60, 5))
    linear_cka(normal(rng, 10, 80), normal(rng, 10, 5))
    assert taken == ["features", "gram"]


def record(taken, name, form, a, b):
    taken.append(name)
    return form(a, b)


def test_no_product_is_larger_than_a_tile(monkeypatch, rng):
    sizes = []

    def watched(a, b):
        sizes.append((a.shape[1], b.shape[1]))
        return a.T @ b

    monkeypatch.setattr(kernels, "TILE", 8)
    monkeypatch.setattr(alignment, "product", watched)
    for form in FORMS:
        linear_cka(normal(rng, 50, 20), normal(rng, 50, 30), form=form)
    assert max(max(size) for size in sizes) == 8


@BOTH
@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 2.0])
def test_rbf_cka_is_the_direct_formula(bandwidth, unbiased, rng):
    a, b = normal(rng, 15, 4), normal(rng, 15, 6) + 100

    def gram(v):
        distance = torch.pdist(v)
        sigma = bandwidth * distance.sort().values[(len(distance) - 1) // 2]
        return (-(torch.cdist(v, v) ** 2) / (2 * sigma**2)).exp()

    found = rbf_cka(a, b, bandwidth=bandwidth, unbiased=unbiased)
    torch.testing.assert_close(found, direct_cka(gram(a), gram(b), unbiased))


def test_a_wide_rbf_kernel_is_linear(rng):
    """exp(-t) = 1 - t + ..., and centring takes all but the inner products out of the distances."""
    a, b = normal(rng, 30, 4), normal(rng, 30, 6)
    torch.testing.assert_close(rbf_cka(a, b, bandwidth=300), linear_cka(a, b), rtol=1e-4, atol=1e-4)


# -- invariances ---------------------------------------------------------------------------------

seeds, sizes = st.integers(0, 2**31), st.integers(2, 12)
KINDS = {"linear": linear_cka, "rbf": rbf_cka}


@pytest.mark.parametrize("kind", KINDS)
@BOTH
@settings(max_examples=15, deadline=None)
@given(seed=seeds, d=sizes, p=sizes, n=st.integers(5, 30), scale=st.floats(1e-3, 1e3))
@pytest.mark.claim("17.5", "CKA is invariant to orthogonal maps, isotropic scaling and shifts")
def test_invariances(kind, unbiased, seed, d, p, n, scale):
    rng = torch.Generator().manual_seed(seed)
    a, b, shift = normal(rng, n, d), normal(rng, n, p), 10 * normal(rng, d)
    q = torch.linalg.qr(normal(rng, d, d)).Q
    similar = partial(KINDS[kind], unbiased=unbiased)
    expected = similar(a, b)
    for changed in (a @ q, scale * a, a + shift):
        torch.testing.assert_close(similar(changed, b), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(similar(b, a), expected)
    torch.testing.assert_close(similar(a, scale * a @ q + shift), torch.ones_like(expected))
    order = torch.randperm(n, generator=rng)
    torch.testing.assert_close(similar(a[order], b[order]), expected)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, d=sizes, p=sizes, n=st.integers(2, 30))
def test_biased_linear_cka_lies_between_0_and_1(seed, d, p, n):
    rng = torch.Generator().manual_seed(seed)
    found = linear_cka(normal(rng, n, d), normal(rng, n, p)).item()
    assert -1e-12 <= found <= 1 + 1e-12


@pytest.mark.claim("17.5", "CKA is not invariant to general linear maps")
def test_a_stretch_changes_cka():
    """Corners of a square, one axis stretched by t: (1 + t^2) / sqrt(2 (1 + t^4)) by hand."""
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    for t in (1.0, 2.0, 10.0):
        stretched = square * torch.tensor([t, 1.0])
        expected = (1 + t**2) / math.sqrt(2 * (1 + t**4))
        assert linear_cka(square, stretched).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.claim("17.5", "the two networks may have different widths, but the same n examples")
def test_widths_may_differ_and_rows_may_not(rng, unchecked):
    assert 0 < linear_cka(normal(rng, 20, 3), normal(rng, 20, 50)) < 1
    with pytest.raises(ValueError, match="the same n examples, row by row, got n=20 and n=19"):
        linear_cka(normal(rng, 20, 3), normal(rng, 19, 3))


# -- centring and bias ---------------------------------------------------------------------------


@pytest.mark.claim("17.5", "without centring, offsets alone make independent features similar")
def test_features_must_be_centred(rng):
    """A constant of its own per feature: uncentred .99, centred near d/(n+d) = .048."""
    n, d = 1000, 50
    a, b = (normal(rng, n, d) + 10 * normal(rng, d) for _ in range(2))
    uncentred = ((b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())).item()
    assert uncentred > 0.985
    assert linear_cka(a, b).item() == pytest.approx(d / (n + d), abs=0.01)
    assert linear_cka(a, b, unbiased=True).item() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("n", "d"), [(50, 5000), (100, 100), (400, 40)])
@pytest.mark.claim("17.5", "biased CKA of independent Gaussian features is about d/(n+d)")
def test_the_bias_of_independent_gaussians(n, d, rng):
    found = [linear_cka(normal(rng, n, d), normal(rng, n, d)).item() for _ in range(5)]
    assert sum(found) / 5 == pytest.approx(d / (n + d), abs=0.01)


@pytest.mark.claim("17.5", "unbiased CKA of independent features is 0 in the mean")
def test_the_unbiased_estimate_of_independent_features_is_around_zero(rng):
    n, d = 20, 30
    draws = [(normal(rng, n, d), normal(rng, n, d)) for _ in range(100)]
    unbiased = torch.stack([linear_cka(a, b, unbiased=True) for a, b in draws])
    assert unbiased.mean().abs() < 4 * unbiased.std() / 10
    assert (unbiased < 0).double().mean() > 0.3  # an estimate around 0 is often below it
    assert min(linear_cka(a, b).item() for a, b in draws[:10]) > 0.5
    wide = [
        linear_cka(normal(rng, 50, 5000), normal(rng, 50, 5000), unbiased=True) for _ in range(5)
    ]
    assert max(abs(v.item()) for v in wide) < 0.1  # where the biased one is 0.99


# -- minibatches ---------------------------------------------------------------------------------


def parts(a, b, size):
    return list(zip(a.split(size), b.split(size), strict=True))


@BOTH
@pytest.mark.parametrize("kernel", [linear_kernel, rbf_kernel])
def test_one_batch_is_all(kernel, unbiased, rng):
    a, b = normal(rng, 30, 5), normal(rng, 30, 8)
    whole = cka(kernel(a), kernel(b), unbiased=unbiased)
    found = minibatch_cka([(a, b)], kernel=kernel, unbiased=unbiased)
    torch.testing.assert_close(found, whole)


@BOTH
def test_batches_average_hsic_and_not_cka(unbiased, rng):
    a, b = normal(rng, 35, 5), normal(rng, 35, 8)
    a[20:] *= 3
    weight = torch.tensor([10.0, 10.0, 15.0]).double()
    pairs = list(zip(a.split([10, 10, 15]), b.split([10, 10, 15]), strict=True))

    def mean(u, v):
        each = [direct_hsic(p[u] @ p[u].T, p[v] @ p[v].T, unbiased) for p in pairs]
        return weight @ torch.stack(each)

    expected = mean(0, 1) / (mean(0, 0) * mean(1, 1)).sqrt()
    torch.testing.assert_close(minibatch_cka(pairs, unbiased=unbiased), expected)


@pytest.mark.claim("17.5", "batches of HSIC_0 keep their bias, batches of HSIC_1 lose it")
def test_more_batches_remove_the_error_of_the_unbiased_form_only(rng):
    """True linear CKA of A = sW + E: known from the covariances."""
    w, v = 0.35 * normal(rng, 4, 40), 0.35 * normal(rng, 4, 60)
    shared = normal(rng, 4_000, 4)
    a, b = shared @ w + normal(rng, 4_000, 40), shared @ v + normal(rng, 4_000, 60)
    own_a = w.T @ w + torch.eye(40, dtype=w.dtype)
    own_b = v.T @ v + torch.eye(60, dtype=w.dtype)
    truth = ((w.T @ v).norm() ** 2 / (own_a.norm() * own_b.norm())).item()
    unbiased = minibatch_cka(parts(a, b, 50), unbiased=True).item()
    biased = minibatch_cka(parts(a, b, 50), unbiased=False).item()
    assert unbiased == pytest.approx(truth, abs=0.015)
    assert linear_cka(a, b).item() == pytest.approx(truth, abs=0.015)
    assert abs(biased - truth) > 0.05


def test_the_path_yields_after_every_batch(rng):
    a, b = normal(rng, 30, 5), normal(rng, 30, 8)
    grams = [([linear_kernel(u)], [linear_kernel(v)]) for u, v in parts(a, b, 10)]
    path = [value.item() for value in cka_path(grams)]
    expected = [minibatch_cka(parts(a, b, 10)[:k]).item() for k in (1, 2, 3)]
    assert path == pytest.approx(expected)


def test_batches_are_read_one_at_a_time(rng):
    """A stream: the next batch is drawn only when the last is done with."""
    drawn = []

    def stream():
        for k in range(3):
            drawn.append(k)
            yield [linear_kernel(normal(rng, 8, 3))], [linear_kernel(normal(rng, 8, 3))]

    path = cka_path(stream())
    next(path)
    assert drawn == [0]


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="batches is empty"):
        minibatch_cka([])


# -- degenerate input ----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_features_are_refused(unbiased, dtype, rng):
    constant = (0.1 + torch.arange(5.0)).to(dtype).expand(12, 5)
    other = normal(rng, 12, 3, dtype=dtype)
    for pair, name in (((constant, other), "a"), ((other, constant), "b")):
        with pytest.raises(ValueError, match=f"of {name} is constant"):
            linear_cka(*pair, unbiased=unbiased)


def test_equidistant_examples_have_no_unbiased_self_similarity(rng):
    corners = torch.eye(10)
    with pytest.raises(ValueError, match="all examples equally far apart"):
        linear_cka(corners, normal(rng, 10, 3), unbiased=True)
    assert linear_cka(corners, corners).item() == pytest.approx(1)


def test_a_batch_in_which_a_layer_is_dead_adds_nothing(rng):
    a = normal(rng, 20, 3)
    b = a @ normal(rng, 3, 4)
    dead = torch.zeros(20, 3, dtype=a.dtype)
    assert 0 < minibatch_cka([(a, b), (dead, b)]).item() < minibatch_cka([(a, b)]).item()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: linear_cka(v[:3], v[:3], unbiased=True), "n must be >= 4 with unbiased=True"),
        (lambda v: linear_cka(v[:1], v[:1]), "n must be >= 2 with unbiased=False, got n=1"),
        (lambda v: linear_cka(v, v, form="fast"), r"form must be one of \('features', 'gram'\)"),
        (lambda v: linear_cka(v[:, :0], v), r"a must be features \(n, d\).*got \(9, 0\)"),
        (lambda v: linear_cka(v, v[0]), r"b must be features \(n, d\)"),
        (lambda v: linear_cka(v, v.clone().fill_(math.nan)), "b must be finite.*9 of 9 rows"),
        (lambda v: linear_cka(v / torch.tensor([0, 1]), v), "a must be finite, got NaN or inf"),
        (lambda v: rbf_cka(v, v, bandwidth=0.0), "bandwidth must be finite and > 0.*got 0.0"),
        (lambda v: rbf_cka(v, v, bandwidth=math.nan), "bandwidth must be finite"),
        (lambda v: rbf_cka(v, v[:5]), "row by row, got n=9 and n=5"),
        (lambda v: rbf_kernel(v * 0), "median distance of 0"),
        (lambda v: hsic(v, v @ v.T), r"k_a must be a Gram matrix \(n, n\), got shape \(9, 2\)"),
        (lambda v: hsic(v @ v.T, v @ v.T * math.inf), "k_b must be finite"),
        (lambda v: hsic(v @ v.T, (v @ v.T)[:5, :5]), "n=9 and n=5"),
    ],
)
def test_bad_input_is_refused(call, message, unchecked, rng):
    with pytest.raises(ValueError, match=message):
        call(normal(rng, 9, 2))


# -- layers --------------------------------------------------------------------------------------


class Branches(nn.Module):
    """A module that is used twice, one that is not used, one that returns a pair."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Linear(6, 5), nn.ReLU()
        self.inner = nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True))
        self.unused, self.pair = nn.Linear(2, 2), Pair()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.twice(self.first(x.flatten(1)))
        return self.pair(self.drop(self.twice(self.inner(x))))[0]


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Branches()


def hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules())


def test_features_are_the_outputs_of_the_layers(model, rng):
    x = normal(rng, 11, 2, 3, dtype=torch.float32)
    model.train()
    found = features(model, x, ["inner.0", "first", "inner"], batch_size=4)
    assert list(found) == ["inner.0", "first", "inner"] and model.training
    first = model.first(x.flatten(1))
    inner = model.inner[0](first.relu())
    torch.testing.assert_close(found["first"], first.detach())
    torch.testing.assert_close(found["inner.0"], inner.detach())  # before the in-place ReLU
    torch.testing.assert_close(found["inner"], inner.relu().detach())
    assert not any(v.requires_grad for v in found.values()) and hooks(model) == 0
    assert all(p.requires_grad for p in model.parameters())


def test_convolutions_are_flattened_and_the_children_are_the_default(rng):
    model = nets.mnist_cnn()
    found = features(model, torch.rand(3, 1, 28, 28, generator=rng))
    assert list(found) == layer_names(model) == [str(k) for k in range(8)]
    assert found["0"].shape == (3, 16 * 14 * 14) and found["7"].shape == (3, 10)
    torch.testing.assert_close(found["3"], found["4"])  # nn.Flatten


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["first", "second"], r"modules of the network, \['first', 'twice',.*got \['second'\]"),
        (["twice"], "'twice' runs more than once"),
        (["unused"], r"layers \['unused'\] did not run"),
        (["pair"], r"'pair' must return a tensor \(7, ...\), got tuple"),
        (["first", "first"], "different names"),
        ([], "at least one"),
    ],
)
def test_layers_that_cannot_be_read_are_refused_and_leave_no_hook(model, layers, message):
    with pytest.raises(ValueError, match=message):
        features(model.train(), torch.zeros(7, 6), layers)
    assert hooks(model) == 0 and model.training


def test_a_network_that_fails_leaves_no_hook(model):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        features(model.train(), torch.zeros(7, 5), ["first"])
    assert hooks(model) == 0 and model.training


@BOTH
@pytest.mark.claim("17.5", "a heat map holds the CKA of every pair of layers")
def test_a_heat_map_is_the_cka_of_all_pairs(unbiased, rng):
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    b = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    x = normal(rng, 30, 6, dtype=torch.float32)
    found = similarity(a, b, x, unbiased=unbiased)
    of_a, of_b = features(a, x), features(b, x)
    assert (found.layers_a, found.layers_b) == (("0", "1", "2"), ("0", "1"))
    assert (found.n, found.batch_size, found.unbiased) == (30, 30, unbiased)
    for i, u in enumerate(of_a.values()):
        for j, v in enumerate(of_b.values()):
            torch.testing.assert_close(
                found.values[i, j], direct_linear(u, v, unbiased), rtol=1e-5, atol=1e-6
            )
    batched = similarity(a, b, x, unbiased=unbiased, batch_size=10)
    pair = minibatch_cka(parts(of_a["2"], of_b["0"], 10), unbiased=unbiased)
    torch.testing.assert_close(batched.values[2, 0], pair, rtol=1e-5, atol=1e-6)
    assert batched.batch_size == 10


def test_a_self_map_is_symmetric_with_ones(rng):
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    x = normal(rng, 40, 6, dtype=torch.float32)
    found = similarity(a, a, x, batch_size=8).values
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found.diagonal(), torch.ones(3).double())
    again = similarity(a, a, x, x_b=x.clone(), batch_size=8).values
    torch.testing.assert_close(again, found)


def test_the_second_network_may_see_other_inputs(rng):
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(6, 9), nn.Tanh())
    x, z = normal(rng, 2, 40, 6, dtype=torch.float32)
    found = similarity(a, a, x, ["1"], x_b=z, kernel=rbf_kernel).values
    expected = rbf_cka(features(a, x)["1"], features(a, z)["1"], unbiased=True)
    torch.testing.assert_close(found[0, 0], expected)
    with pytest.raises(ValueError, match="a row for each row of x, got 39 for 40"):
        similarity(a, a, x, x_b=z[:39])


def test_batches_are_as_even_as_can_be(rng):
    """21 examples in batches of at most 10: 7 + 7 + 7, so none is too small for HSIC_1."""
    a = nn.Sequential(nn.Linear(6, 9))
    same = similarity(a, a, normal(rng, 21, 6, dtype=torch.float32), batch_size=10)
    assert same.values.item() == pytest.approx(1)
    with pytest.raises(ValueError, match="need batch_size >= 1"):
        similarity(a, a, torch.zeros(5, 6), batch_size=0)


def test_late_similarity_by_hand():
    values = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.4], [0.1, 0.4, 1.0]])
    assert late_similarity(values, 2).item() == pytest.approx(0.4)
    assert late_similarity(values, 3).item() == pytest.approx((0.9 + 0.1 + 0.4) / 3)
    for last in (1, 4):
        with pytest.raises(ValueError, match=f"last must be 2..3, .*, got {last}"):
            late_similarity(values, last)


# -- the run -------------------------------------------------------------------------------------

TINY = run.Config(
    dataset="mnist-mini", standard="mnist-standard", robust="mnist-pgd", layers="6,7", late=2,
    images=40, folds=2, attacked_images=4,
)  # fmt: skip


def job(config, out):
    return Job("cka", "quick", config, out, progress=False)


def test_a_run_saves_the_maps_and_the_patterns(tmp_path):
    record = run.run(TINY, job(TINY, tmp_path))
    assert json.loads((tmp_path / f"{record['run_id']}.json").read_text()) == record
    rows = {(r["a"], r["b"], r["layer_a"], r["layer_b"]): r["cka"] for r in record["history"]}
    assert len(rows) == len(record["history"]) == 3 * 4
    assert rows["mnist-pgd", "mnist-pgd", "6", "6"] == pytest.approx(1)
    x = data.load("mnist-mini", "test", 40).x
    x = x[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    models = [nets.shipped(name) for name in ("mnist-standard", "mnist-pgd")]
    halves = [similarity(*models, half, ["6", "7"]).values for half in x.tensor_split(2)]
    mean = sum(halves) / 2
    assert rows["mnist-standard", "mnist-pgd", "6", "7"] == pytest.approx(
        mean[0, 1].item(), abs=1e-6
    )
    metrics = record["metrics"]
    same = metrics["same layer, standard and robust: mnist-standard | mnist-pgd"]
    assert same["value"] == pytest.approx(mean.trace().item() / 2, abs=1e-6) and same["n"] == 2
    late = metrics["late: mnist-pgd"]
    assert late["value"] == pytest.approx(rows["mnist-pgd", "mnist-pgd", "6", "7"], abs=1e-6)
    assert metrics["clean: mnist-pgd"]["n"] == 40 and metrics["pgd-40: mnist-pgd"]["n"] == 4


def test_a_run_trains_what_is_not_named_and_cleans_up(tmp_path):
    config = replace(
        TINY, standard="", robust="", seeds=1, seed=1, train_images=20, epochs=1, steps=1, images=20
    )
    record = run.run(config, job(config, tmp_path))
    names = ["standard seed 1", "robust seed 1"]
    assert list(dict.fromkeys(row["a"] for row in record["history"])) == names
    assert record["data"]["train"] == 20
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".csv"}
    assert [one.kind for one in run.trainings(config)] == ["standard", "robust"]


def test_the_interval_is_students():
    found = run.interval([1.0, 2.0, 6.0])
    low, high = scipy.stats.t.interval(0.95, 2, loc=3, scale=scipy.stats.sem([1, 2, 6]))
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert (found["value"], found["n"]) == (3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"robust": ""}, "robust must name at least one network.*or seeds be >= 1.*a shipped one"),
        ({"robust": "mnist-best"}, r"no network 'mnist-best': it is none of the shipped \['mnist-"),
        ({"robust": "away/net.safetensors"}, "there is no away/net.safetensors"),
        ({"robust": "pgd-0123456789"}, "the record .*pgd-0123456789.json is there, its weights"),
        ({"layers": "6,9"}, r"layers must be modules of the network.*got \['9'\]"),
    ],
)
def test_networks_without_weights_are_refused_with_the_way_out(change, message, tmp_path):
    made = {"run": "pgd", "scale": "quick", "config": {"dataset": "mnist", "eps": 0.2}}
    (tmp_path / "pgd-0123456789.json").write_text(json.dumps(made))
    config = replace(TINY, **change)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        run.run(config, job(config, tmp_path))
    if "0123456789" in message:
        assert "runs pgd dataset=mnist eps=0.2 --scale quick --again" in str(caught.value)


def test_networks_are_loaded_by_run_id_and_by_path(tmp_path):
    model = nets.preact_resnet18(2).eval()
    plain = {k: v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous() for k, v in plain.items()}, tmp_path / "pgd-1.safetensors")
    made = {"config": {"dataset": "cifar-10", "network": "small"}}
    (tmp_path / "pgd-1.json").write_text(json.dumps(made))
    small = {"small": partial(nets.preact_resnet18, 2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "NETWORKS", small)
        for name in ("pgd-1", str(tmp_path / "pgd-1.safetensors")):
            loaded = run.load(name, TINY, tmp_path)
            x = torch.rand(2, 3, 32, 32)
            torch.testing.assert_close(loaded(x), model(x))


@pytest.mark.parametrize("change", [{"dataset": "imagenet"}, {"folds": 1}, {"images": 7}])
def test_bad_configurations_are_refused(change):
    with pytest.raises(ValueError, match="dataset must be one of|need folds >= 2 of at least 4"):
        replace(TINY, **change)
    assert run.SCALES["full"].dataset == "cifar-10"


# -- what people bring -----------------------------------------------------------------------------


class Dying(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.dead, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        nn.init.zeros_(self.dead.weight)

    def forward(self, x):
        z = self.first(x)
        return self.last(z + self.dead(z))


def test_a_dead_layer_is_named_and_the_rest_of_the_map_stands(rng):
    model, x = Dying(), normal(rng, 40, 5).float()
    with pytest.warns(UserWarning, match=r"layers \['dead'\] of model_[ab] are constant"):
        found = similarity(model, model, x).values
    alive = similarity(model, model, x, ["first", "last"]).values
    torch.testing.assert_close(found[[0, 2]][:, [0, 2]], alive)
    assert found[1].isnan().all() and found[:, 1].isnan().all()
    a = torch.ones(10, 3)
    with pytest.raises(ValueError, match="undefined where HSIC"):
        minibatch_cka([(a, normal(rng, 10, 3).float())])


def test_one_name_is_one_layer(rng):
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(11)])
    assert list(features(model, normal(rng, 6, 4).float(), "10")) == ["10"]


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_features_of_any_size_in_float32(size, rng):
    a, b = normal(rng, 30, 4).float(), normal(rng, 30, 7).float()
    big = a * size, b / size
    for unbiased in (False, True):
        for form in ("gram", "features"):
            expected = linear_cka(a, b, unbiased=unbiased, form=form)
            found = linear_cka(*big, unbiased=unbiased, form=form)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            minibatch_cka([big], unbiased=unbiased),
            minibatch_cka([(a, b)], unbiased=unbiased),
            rtol=1e-5,
            atol=1e-6,
        )
    torch.testing.assert_close(
        linear_kernel(big[0]) / size**2, linear_kernel(a), rtol=1e-5, atol=1e-6
    )


def test_arrays_are_refused_in_words(unchecked, rng):
    a = normal(rng, 6, 3).numpy()
    calls = (
        lambda: linear_cka(a, a),
        lambda: rbf_cka(a, a),
        lambda: cka(a, a),
        lambda: features(nn.Sequential(nn.Linear(3, 2)), a),
    )
    for call in calls:
        with pytest.raises(ValueError, match="must be a torch.Tensor, got ndarray"):
            call()
