from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from adversarial_lab.measures import (
    SOLVERS,
    Infeasible,
    as_float64,
    check_masses,
    check_one_total,
    check_weights,
    cover,
    fastest,
    given_or_equal,
    incidence,
    least_cost,
    solve,
)

KINDS = {
    "list": lambda w: w.tolist(),
    "tuple": lambda w: tuple(w.tolist()),
    "numpy": lambda w: w,
    "torch": lambda w: torch.from_numpy(w).requires_grad_(w.dtype.kind == "f"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 3000), seed=st.integers(0, 2**20))
def test_weights_sum_to_one_within_their_own_precision(kind, dtype, n, seed):
    if kind in ("list", "tuple") and dtype == np.float16:
        return  # numbers of a list are float64 or float32: half a thousandth off is a mistake
    shares = np.random.default_rng(seed).dirichlet(np.ones(n)) if seed % 2 else np.full(n, 1 / n)
    w = check_weights(KINDS[kind](shares.astype(dtype)), n)
    assert w.dtype == np.float64 and abs(w.sum() - 1) <= 1e-9
    lost = np.finfo(dtype).eps * shares + np.finfo(dtype).smallest_subnormal
    assert (np.abs(w - shares) <= lost + 8 * np.finfo(dtype).eps * shares + 1e-15).all()


def test_weights_in_double_are_left_alone():
    w = np.random.default_rng(0).dirichlet(np.ones(50))
    assert check_weights(w, 50) is w
    assert (given_or_equal(None, 4) == 0.25).all() and given_or_equal(w, 50) is w


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.6], "shares must sum to one, got 1.1"),
        ([0.5, 0.5 + 1e-6 / 3], "shares must sum to one"),  # no float32 number: a list in double
        (np.array([0.5, 0.5 + 2e-6], np.float32), "shares must sum to one"),
        (torch.tensor([0.5, 0.55], dtype=torch.bfloat16).double(), "shares must sum to one"),
        ([1.0], r"shares must have shape \(2,\), got \(1,\)"),
        ([[0.5], [0.5]], r"shares must have shape \(2,\), got \(2, 1\)"),
        ([1.5, -0.5], "shares must be finite and >= 0, the least is -0.5"),
        ([np.nan, 1.0], "shares must be finite"),
        (["a", "b"], r"shares must hold numbers, got \['a', 'b'\]"),
        ([[1.0], [1.0, 2.0]], "shares must hold numbers"),
        (None, r"shares must have shape \(2,\), got \(\)"),
    ],
)
def test_what_is_no_probability_is_refused(weights, message, unchecked):
    with pytest.raises(ValueError, match=message):
        check_weights(weights, 2, "shares")


def test_masses_have_one_total_within_their_own_precision():
    a, b = np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.4])
    assert [side.tolist() for side in check_masses([a, b.tolist()], "m")] == [
        [0.1, 0.2, 0.4],
        b.tolist(),
    ]
    first, second = check_one_total([a, b.astype(np.float32)])
    assert first is not None and abs(first.sum() - second.sum()) < 1e-15
    assert (first == a).all()
    with pytest.raises(ValueError, match="marginals must have one total mass"):
        check_one_total([a, b + 1e-6])
    for bad in ([], [0.0, 0.0], [-1.0, 2.0], [np.inf], [[1.0]]):
        with pytest.raises(ValueError, match="m must be finite, >= 0, and have some mass"):
            check_masses([a, bad], "m")


def test_bfloat16_and_whole_numbers_are_numbers():
    assert as_float64(torch.tensor([1, 2])).tolist() == [1.0, 2.0]
    assert as_float64(torch.tensor([0.5], dtype=torch.bfloat16)).dtype == np.float64
    assert as_float64([1, 2.5]).tolist() == [1.0, 2.5]


def test_incidence_by_hand():
    groups = np.array([[0, 2], [3, 1]])
    assert incidence(groups, 4).toarray().tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    assert incidence(np.empty((0, 3), int), 4).shape == (0, 4)


def test_programs_are_solved_in_any_unit_and_failures_say_what_failed():
    cost, rows = np.array([1.0, 2.0, 3.0]), incidence(np.array([[0, 1], [1, 2]]), 3)
    for unit in (1e-9, 1.0, 1e9):
        sides = unit * np.array([1.0, 2.0])
        found = least_cost(cost, task="this", A_eq=rows, b_eq=sides)
        assert found.fun == pytest.approx(5 * unit) and found.x == pytest.approx([0, unit, unit])
    with pytest.raises(Infeasible, match="HiGHS did not solve this"):
        solve(cost, task="this", A_eq=rows[:1], b_eq=np.array([-1.0]))
    with pytest.raises(RuntimeError, match="HiGHS did not solve that"):
        solve(-cost, task="that", A_eq=rows[:1], b_eq=np.array([1.0]))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**20))
def test_the_solvers_agree_and_the_cover_proves_them(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 7, 2)
    i, j = np.nonzero(rng.random((n, m)) < 0.4)
    j, first = j + n, np.arange(n + m) < n
    w = rng.integers(1, 4, n + m) if seed % 2 else np.ones(n + m)
    w = w / w.sum()
    best = (
        -linprog(
            -np.ones(len(i)), np.array([(i == k) | (j == k) for k in range(n + m)], float), w
        ).fun
        if len(i)
        else 0.0
    )
    for name, solver in SOLVERS.items():
        if len(i) == 0 or (name == "matching" and w.min() < w.max()):
            continue
        mass = solver(i, j, w)
        assert mass.min() >= 0 and mass.sum() == pytest.approx(best)
        given_up = cover(i, j, mass, w, first)
        assert (given_up[i] | given_up[j]).all() and w[given_up].sum() == pytest.approx(best)
    assert fastest(w) == ("matching" if w.min() == w.max() else "flow")


def test_every_function_of_the_floor_takes_lists(unchecked):
    """Section 17.6 and the lecture: the same numbers as lists, float32 arrays and tensors."""
    from adversarial_lab.barycenter import cost_between, fixed_support, quantile_average
    from adversarial_lab.multimarginal import play, transport
    from adversarial_lab.multimarginal.coupling import couple
    from adversarial_lab.robust_objectives import risk_with_changes
    from adversarial_lab.transport import risk_bracket, risk_on_the_line

    x, y, w, table = [0.0, 1.0, 2.5], [0, 1, 0], [0.25, 0.5, 0.25], [[0.0, 1.0], [1.0, 0.0]]
    half = [0.5, 0.5]
    calls = {
        "risk_on_the_line": lambda of: risk_on_the_line(
            of(x), of(half), 0.3, (of([0.2] * 3), of([0.2] * 2))
        ),
        "risk_bracket": lambda of: risk_bracket(
            lambda u: u, lambda u: u + 0.5, 0.1, priors=of(half)
        ),
        "risk_with_changes": lambda of: risk_with_changes(of(x), of(y), 0.6, 2, of(w)),
        "couple": lambda of: couple(of(table), [of(half), of(half)]).value,
        "transport": lambda of: transport(of(np.ones((3, 3)).tolist()), of(half)).value,
        "play": lambda of: play(of([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 1]), of(half)).value,
        "quantile_average": lambda of: quantile_average([of(x), of(x)], [of(w), of(w)], of(half))[
            0
        ],
        "cost_between": lambda of: cost_between(of(x), of(w), of([0.0, 1.0]), of(half)),
        "fixed_support": lambda of: fixed_support([of(table)] * 2, [of(half)] * 2, of(half)).value,
    }
    kinds = {
        "list": lambda v: v,
        "float32": lambda v: np.array(v, np.float32),
        "torch": lambda v: torch.tensor(v, dtype=torch.float32),
    }
    for (name, call), (kind, of) in product(calls.items(), kinds.items()):
        double = call(lambda v: np.array(v, float))
        assert call(of) == pytest.approx(double, abs=1e-6), (name, kind)
