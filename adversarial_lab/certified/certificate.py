r"""Section 17.4.1: certificates, $h(x')=h(x)$ for all $x'\in N(x)$, by any bounding method.

`METHODS` is the table of ways to bound the margins $z_y-z_j$ from below. A positive bound on all
of them proves that no x' in N(x) is given another class than y: with y = h(x) the prediction is
stable, with y the label it is also right ("verified").
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from tqdm.auto import tqdm

from adversarial_lab.certified.affine import rounding
from adversarial_lab.certified.criterion import Margins, interval_margins, logit_margins
from adversarial_lab.certified.crown import crown_margins
from adversarial_lab.certified.graph import Graph
from adversarial_lab.certified.interval import Interval, Radii, Region, propagate, region
from adversarial_lab.certified.jacobian import local_margins
from adversarial_lab.certified.layers import kind
from adversarial_lab.certified.lipschitz import pair_margins, product_margins
from adversarial_lab.certified.polytope import lp_margins, milp_margins
from adversarial_lab.certified.tracing import trace
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels


@dataclass(frozen=True)
class Method:
    """A way to bound margins: margins(graph, region, y, outward=...) -> (n, k), and its norms."""

    margins: Callable[..., Margins]
    norms: tuple[str, ...] = ("linf", "l2", "l1")
    batch: int = 200  # examples at a time, so that memory does not grow with n


METHODS: dict[str, Method] = {
    "ibp-logits": Method(logit_margins),
    "ibp": Method(interval_margins),
    "crown-ibp": Method(partial(crown_margins, refine=False)),
    "crown": Method(crown_margins),
    "lp": Method(lp_margins, ("linf", "l1"), batch=10),
    "milp": Method(milp_margins, ("linf", "l1"), batch=10),
    "lipschitz": Method(product_margins, batch=1000),
    "lipschitz-pair": Method(pair_margins, batch=1000),
    "lipschitz-local": Method(local_margins, batch=50),
}


def margins(
    model: nn.Module | Graph,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    method: str = "ibp",
    *,
    outward: bool = True,
) -> Margins:
    r"""Lower bounds on $z_y-z_j$ over N(x), Section 17.4.1, one column per class; +inf at j = y.

    method: a key of `METHODS`. outward: rounding errors are paid for (see `interval`); without,
    bounds are plain arithmetic, as in training. Differentiable where the method is. Raises
    ValueError on an unknown method, a norm that it does not cover, a layer that it cannot bound.
    """
    chosen = _method(method, threat)
    threat.check(x)
    y = _labels(x, y)
    graph = trace(model, x[:1])
    _check_classes(graph, x[:1], y)
    return _bounds(chosen, graph, region(x, threat, outward=outward), y, outward)


def _bounds(method: Method, graph: Graph, where: Region, y: Tensor, outward: bool) -> Margins:
    """What the method says, -inf where it says nothing; a last softmax is taken off and put on."""
    *body, last = graph.nodes
    softmax = kind(last.layer) in LAST and len(body) > 0
    found = method.margins(Graph(tuple(body)) if softmax else graph, where, y, outward=outward)
    found = torch.where(found.isnan(), -torch.inf, found)
    return LAST[kind(last.layer)](found, outward) if softmax else found


def _unchanged(logits: Margins, outward: bool) -> Margins:
    r"""$\log p_y-\log p_j=z_y-z_j$."""
    return logits


def _of_probabilities(logits: Margins, outward: bool) -> Margins:
    r"""$p_y-p_j=p_y(1-e^{-m_j})$ at least, $m_j\le z_y-z_j$; where $m_j<0$, $\tanh(m_j/2)$.

    $p_y\ge1/(1+\sum_{k\ne y}e^{-m_k})$ is 1 over the sum of all $e^{-m_k}$, with $m_y$ = 0.
    """
    rival = logits < torch.inf
    share = (-logits.masked_fill(~rival, 0.0)).exp().sum(1, keepdim=True).reciprocal()
    found = torch.where(logits > 0, -torch.expm1(-logits) * share, torch.tanh(logits / 2))
    slack = 2 * rounding(found.shape[1], found) if outward else 0.0
    return torch.where(rival, found - slack, torch.inf)


LAST: dict[type[nn.Module], Callable[[Margins, bool], Margins]] = {
    nn.LogSoftmax: _unchanged,
    nn.Softmax: _of_probabilities,
}


def certify(
    model: nn.Module | Graph,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    method: str = "ibp",
    *,
    progress: bool = False,
) -> Bool[Tensor, " n"]:
    r"""True where $z_y>z_j$ for all j and all $x'\in N(x)$ is proved, Section 17.4.1.

    y = h(x): the prediction is stable. y = the label: it is stable and right. False is no proof of
    an attack. In eval mode; see `margins` for the errors raised.
    """
    size, graph, y = _method(method, threat).batch, trace(model, x[:1]), _labels(x, y)
    batches = list(zip(x.split(size), y.split(size), strict=True))
    bar = tqdm(batches, f"certify {method}", leave=False, disable=not progress)
    with torch.no_grad():
        return torch.cat([(margins(graph, u, v, threat, method) > 0).all(1) for u, v in bar])


def certified_radius(
    model: nn.Module | Graph,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    method: str = "ibp",
    *,
    steps: int = 12,
) -> Radii:
    r"""The largest eps found with a certificate, Section 17.4.1, up to threat.eps; 0 if none was.

    A lower bound on the distance to the nearest other class, by `steps` bisections of each
    example's own interval: within threat.eps / 2^steps of the largest eps that the method
    certifies, where its bounds fall with eps, as interval bounds do.
    """
    path = radius_path(model, x, y, threat, method, steps=steps)
    return deque(path, maxlen=1).pop().lower


def radius_path(
    model: nn.Module | Graph,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    method: str = "ibp",
    *,
    steps: int,
) -> Iterator[Interval]:
    """Yields, per example, the largest radius proved so far and the smallest that was not."""
    size, graph, y = _method(method, threat).batch, trace(model, x[:1]), _labels(x, y)
    if steps < 0:
        raise ValueError(f"steps must be >= 0, got {steps}")

    def proved(eps: Radii) -> Tensor:
        parts = zip(x.split(size), y.split(size), eps.split(size), strict=True)
        with torch.no_grad():
            return torch.cat([_proved(graph, *part, threat, method) for part in parts])

    margins(graph, x[:1], y[:1], threat, method)  # bad arguments are refused as there
    low, high = x.new_zeros(len(x)), x.new_full((len(x),), threat.eps)
    low = torch.where(proved(high), high, low)
    yield Interval(low, high)
    for _ in range(steps):
        middle = (low + high) / 2
        fine = proved(middle)
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
        yield Interval(low, high)


def _proved(
    graph: Graph, x: Tensor, y: Tensor, eps: Tensor, threat: ThreatModel, method: str
) -> Tensor:
    where = region(x, threat, eps=eps, outward=True)
    return (_bounds(METHODS[method], graph, where, y, True) > 0).all(1)


def _method(name: str, threat: ThreatModel) -> Method:
    if name not in METHODS:
        raise ValueError(f"method must be one of {sorted(METHODS)}, got {name!r}")
    if threat.norm not in METHODS[name].norms:
        able = sorted(key for key, m in METHODS.items() if threat.norm in m.norms)
        raise ValueError(f"method {name!r} has no bounds for {threat.norm}; these have: {able}")
    return METHODS[name]


def _labels(x: Tensor, y: Tensor) -> Tensor:
    """The labels as torch indexes with them. Raises ValueError unless there is one per example."""
    if len(x) != len(y):
        raise ValueError(f"y must hold one label per example, got {len(y)} for {len(x)} examples")
    if y.ndim != 1 or y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(f"y must be integer labels (n,), got {y.dtype} of shape {tuple(y.shape)}")
    return y.long()


def _check_classes(graph: Graph, x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless the network gives finite scores (n, k) of two classes or more."""
    with torch.no_grad():
        # an interval of one point, so that a layer without a rule is refused before it is run
        logits = propagate(graph, Interval(x, x), False).lower
    if logits.ndim != 2 or len(logits) != 1 or logits.shape[1] < 2:
        raise ValueError(
            "model must return logits (n, k) of k >= 2 classes: without a rival there is nothing to"
            f" prove; got {tuple(logits.shape)} for one example"
        )
    if not logits.isfinite().all():
        raise ValueError("model must return finite logits, got NaN or inf for the first example")
    k = logits.shape[1]
    if y.min() < 0 or y.max() >= k:
        raise ValueError(f"y must hold labels 0..{k - 1}, got {y.min()}..{y.max()}")
