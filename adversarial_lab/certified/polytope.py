r"""Section 17.4.2: bounds by linear programming over the convex outer polytope, and exact ones.

`lp_margins` solves the triangle relaxation; `milp_margins` the network itself, for the true
minimum of each margin, and `worst_input` says where it is attained. Both are solved by HiGHS, for
one example and rival class at a time: for small networks only.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, linprog, milp
from torch import Tensor, nn

from adversarial_lab.certified.affine import rounding
from adversarial_lab.certified.criterion import Margins
from adversarial_lab.certified.crown import relax
from adversarial_lab.certified.graph import Graph
from adversarial_lab.certified.interval import Interval, Region, region
from adversarial_lab.certified.linear_program import Program, build, check_size, matrices, wide
from adversarial_lab.certified.tracing import trace
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels

TOLERANCE = 1e-6  # HiGHS's own, on rows and on how far a binary variable is from 0 or 1
SECONDS = 60.0  # for one mixed-integer program; then its bound so far


def lp_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$\min z_y-z_j$ over the convex outer polytope, exactly; the column j = y is +inf.

    In double, of the network in real arithmetic. outward: not the solver's word but what its
    multipliers prove, whatever its tolerances (Neumaier and Shcherbina 2004). At least CROWN's.
    """
    return _collect(graph, region, y, _proved if outward else _optimum, exact=False)


def milp_margins(graph: Graph, region: Region, y: Labels, *, outward: bool) -> Margins:
    r"""$\min z_y-z_j$ over the region, the true one; the column j = y is +inf.

    In double, of the network in real arithmetic. A program that is not closed in `SECONDS` gives
    the solver's bound so far. outward: less the solver's tolerance, 1e-6 (1 + the largest size of
    any value in the network), which is stated, not proved.
    """
    return _collect(graph, region, y, _less_tolerance if outward else _dual, exact=True)


def worst_input(
    model: nn.Module | Graph, x: Points, y: Labels, threat: ThreatModel
) -> tuple[Points, Tensor]:
    r"""The x' in N(x) with the smallest $\min_{j\ne y}z_y-z_j$, and that margin, (n,): exact.

    Complete verification, Section 17.4.1: a negative margin comes with its counterexample, a
    positive one says that there is none. Up to the solver's tolerance, in double; linf and l1.
    """
    threat.check(x)
    where = region(x.double().cpu(), threat)
    worst, least = where.x.clone(), where.x.new_full((len(x),), torch.inf)
    for i, _, program, result in _solved(trace(model, x[:1]), where, y, exact=True):
        if result.x is None or result.status != 0:
            raise RuntimeError(f"example {i} was not solved in {SECONDS} s: {result.message}")
        if result.fun < least[i]:
            least[i] = result.fun
            worst[i] = torch.from_numpy(result.x[program.inputs]).view(x[i].shape)
    # the solver's tolerance may have left N(x)
    return threat.project(x, worst.to(x)), least.to(x.device)


Value = Callable[[Program, np.ndarray, OptimizeResult], float]


def _collect(graph: Graph, region: Region, y: Labels, value: Value, *, exact: bool) -> Margins:
    with torch.no_grad():
        k = graph(region.x[:1]).shape[1]
        margins = torch.full((len(y), k), torch.inf, dtype=torch.float64)
        for i, j, program, result in _solved(graph, region, y, exact=exact):
            margins[i, j] = value(program, _objective(program, int(y[i]), j), result)
    return margins.to(region.x.device)  # in double: rounding to x's dtype might round up


def _solved(
    graph: Graph, region: Region, y: Labels, *, exact: bool
) -> Iterator[tuple[int, int, Program, OptimizeResult]]:
    """Every example i with every rival class j, its program and the solver's answer."""
    box = Interval(region.box.lower.double().cpu(), region.box.upper.double().cpu())
    where = Region(region.x.double().cpu(), region.eps.double().cpu(), region.norm, box)
    with torch.no_grad():
        graph = wide(graph)
        check_size(graph, where.x)
        relaxed = relax(graph, where, outward=True, refine=True)
        affine = matrices(relaxed)
    solve = _solve_integer if exact else _solve_linear
    for i, label in enumerate(y.tolist()):
        program = build(relaxed, affine, i, exact=exact)
        for j in range(program.logits.stop - program.logits.start):
            if j != label:
                yield i, j, program, solve(program, _objective(program, label, j))


def _objective(program: Program, y: int, j: int) -> np.ndarray:
    """$z_y-z_j$."""
    c = np.zeros(len(program.low))
    c[program.logits.start + y], c[program.logits.start + j] = 1, -1
    return c


def _solve_linear(program: Program, c: np.ndarray) -> OptimizeResult:
    result = linprog(
        c,
        program.ub_a,
        program.ub_b,
        program.eq_a,
        program.eq_b,
        np.stack([program.low, program.high], 1),
        method="highs",
    )
    if result.status != 0:
        raise RuntimeError(f"the linear program was not solved: {result.message}")
    return result


def _solve_integer(program: Program, c: np.ndarray) -> OptimizeResult:
    rows = [
        LinearConstraint(program.ub_a, -np.inf, program.ub_b),
        LinearConstraint(program.eq_a, program.eq_b, program.eq_b),
    ]
    result = milp(
        c,
        integrality=program.binary,
        bounds=Bounds(program.low, program.high),
        constraints=[row for row in rows if row.A.shape[0]],
        options={"time_limit": SECONDS, "mip_rel_gap": 0.0},
    )
    if result.status not in (0, 1):  # 1: out of time, with a bound or without
        raise RuntimeError(f"the mixed-integer program was not solved: {result.message}")
    if result.mip_dual_bound is None:  # there was nothing to branch on, or no time
        result.mip_dual_bound = result.fun if result.status == 0 else -np.inf
    return result


def _optimum(program: Program, c: np.ndarray, result: OptimizeResult) -> float:
    return result.fun


def _dual(program: Program, c: np.ndarray, result: OptimizeResult) -> float:
    return result.mip_dual_bound


def _less_tolerance(program: Program, c: np.ndarray, result: OptimizeResult) -> float:
    size = np.maximum(program.high, -program.low).max()
    return result.mip_dual_bound - TOLERANCE * (1 + size)


def _proved(program: Program, c: np.ndarray, result: OptimizeResult) -> float:
    r"""A lower bound on c.v over the program, from any multipliers: weak duality, with boxes.

    With p <= 0 for A v <= b and q for E v = e, c.v >= p.b + q.e + min over low <= v <= high of
    (c - A'p - E'q).v. Less what rounding can do to that sum.
    """
    p, q = np.minimum(result.ineqlin.marginals, 0), result.eqlin.marginals
    left = c - program.ub_a.T @ p - program.eq_a.T @ q
    value = p @ program.ub_b + q @ program.eq_b
    value += np.minimum(left * program.low, left * program.high).sum()
    size = np.abs(c) + abs(program.ub_a).T @ np.abs(p) + abs(program.eq_a).T @ np.abs(q)
    total = size @ np.maximum(program.high, -program.low)
    total += np.abs(p) @ np.abs(program.ub_b) + np.abs(q) @ np.abs(program.eq_b)
    return value - 2 * rounding(len(c) + len(p) + len(q), torch.zeros(0).double()) * total
