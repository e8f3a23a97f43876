r"""Section 17.2.1: how well gradient and Hessian describe the loss around an input, Eq. (3).

Everything takes a per-example f: (n, *d) -> (n,), here usually z -> cross-entropy at z. The logits
of a ReLU network are piecewise linear: their Hessian is zero wherever it exists. What curvature
its loss has comes from the softmax, and from the kinks that no derivative at x can see.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from adversarial_lab.threat import Points, Rng, ThreatModel, normal_like
from adversarial_lab.training import PerExample

Values = Float[Tensor, " n"]


def gradient(f: PerExample, x: Points) -> Points:
    r"""$\nabla f(x)$ of each example; zero where f does not depend on x at all."""
    x = x.detach().requires_grad_()
    return _derivative(_values(f, x), x)


def _values(f: PerExample, x: Points) -> Values:
    with torch.enable_grad():
        value = f(x)
    if value.shape != (len(x),):
        raise ValueError(f"f must return shape ({len(x)},), got {tuple(value.shape)}")
    return value


def _derivative(value: Tensor, x: Points, create_graph: bool = False) -> Points:
    """Of the sum of `value` with respect to x; zero where it does not depend on x."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    (g,) = torch.autograd.grad(value.sum(), x, allow_unused=True, create_graph=create_graph)
    return torch.zeros_like(x) if g is None else g


def hessian_product(f: PerExample, x: Points, v: Points) -> Points:
    r"""$\nabla^2 f(x)\,v$ of each example by two backward passes; the matrix is never formed.

    Source: Pearlmutter 1994.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the others differentiate only once
        g = _derivative(_values(f, x), x, create_graph=True)
        return _derivative(g * v, x)  # zero where f is linear


def curvature_along(f: PerExample, x: Points, v: Points) -> Values:
    r"""$u^\top\nabla^2f(x)\,u$ with $u=v/\|v\|$: how fast the slope of f along v changes at x."""
    u = unit(v)
    return dot(u, hessian_product(f, x, u))


def taylor(f: PerExample, x: Points, delta: Points) -> tuple[Values, Values, Values]:
    r"""$f(x)$, $\nabla f(x)^\top\delta$, $\frac12\delta^\top\nabla^2f(x)\,\delta$: Eq. (3)."""
    with torch.no_grad():
        value = f(x.clone())  # f may write into what it is given
    first = dot(gradient(f, x), delta)
    return value, first, dot(hessian_product(f, x, delta), delta) / 2


def linearisation_error(f: PerExample, x: Points, delta: Points) -> Values:
    r"""$|f(x+\delta)-f(x)-\nabla f(x)^\top\delta|$: what the first-order term of Eq. (3) misses.

    Source: Qin et al. 2019, "Adversarial robustness through local linearization".
    """
    with torch.no_grad():
        change = f(x + delta) - f(x.clone())
    return (change - dot(gradient(f, x), delta)).abs()


def gradient_cosine(f: PerExample, x: Points, threat: ThreatModel, rng: Rng = None) -> Values:
    r"""$\cos(\nabla f(x),\nabla f(x'))$ for x' uniform in N(x); 0 where a gradient vanishes.

    Near 1 the loss is close to linear on N(x), near 0 one step says nothing about the next.
    Source: Andriushchenko and Flammarion 2020, "Understanding and improving fast adversarial
    training".
    """
    g, h = gradient(f, x), gradient(f, threat.sample(x, rng))
    return dot(unit(g), unit(h))


def power_path(
    f: PerExample, x: Points, *, steps: int = 30, rng: Rng = None, shift: Values | None = None
) -> Iterator[tuple[Values, Points]]:
    r"""Yields $(\lambda_k,v_k)$, $v_{k+1}\propto(\nabla^2f(x)-s)\,v_k$, from a random unit v_0.

    lambda_k is the curvature $v_k^\top\nabla^2f(x)\,v_k$. The iteration finds the eigenvalue of
    H - s that is largest in absolute value; shift is s, 0 by default.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    v = unit(normal_like(x, rng))
    for _ in range(steps):
        product = hessian_product(f, x, v)
        yield dot(v, product), v
        if shift is not None:
            product = product - shift.view(-1, *[1] * (x.ndim - 1)) * v
        v = torch.where((dot(product, product) > 0).view(-1, *[1] * (x.ndim - 1)), unit(product), v)


def top_curvature(
    f: PerExample, x: Points, *, steps: int = 30, rng: Rng = None
) -> tuple[Values, Points]:
    r"""$\lambda_{\max}(\nabla^2f(x))$ and a unit eigenvector: the sharpest upward bend at x.

    Power iteration converges to the eigenvalue of largest size; where that is negative, a second
    one on H - lambda, whose spectrum is >= 0, finds the largest. Error O((l2/l1)^(2 steps)).
    """
    *_, (value, v) = power_path(f, x, steps=steps, rng=rng)
    below = value < 0
    if below.any():
        shift = value.clamp(max=0)
        *_, (again, w) = power_path(f, x, steps=steps, rng=rng, shift=shift)
        value = torch.where(below, again, value)
        v = torch.where(below.view(-1, *[1] * (x.ndim - 1)), w, v)
    return value, v


def dot(a: Points, b: Points) -> Values:
    """The inner product of each pair of examples."""
    return (a * b).flatten(1).sum(1)


def unit(v: Points) -> Points:
    """Each example at Euclidean length 1; zero stays zero."""
    scale = v.flatten(1).abs().amax(1).view(-1, *[1] * (v.ndim - 1))
    v = v / torch.where(scale > 0, scale, 1.0)  # else the squares of a 1e-30 gradient underflow
    length = v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))
    return v / torch.where(length > 0, length, 1.0)
