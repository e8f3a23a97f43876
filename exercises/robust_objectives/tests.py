"""Cases of the lecture's robust objectives. probe_* run in the sandbox, check_* outside it."""

import numpy as np

QUESTIONS = {
    "worst_logistic": {
        "title": "Regularisation: the worst loss of a linear model",
        "section": "'Linear models: the dual norm, exactly'",
        "minutes": 15,
        "difficulty": 1,
        "hints": [
            "The loss falls with y t: the adversary lowers the margin as far as it can.",
            "The largest w.d over the ball is eps times a norm of w. Which one?",
            "linf moves every coordinate by eps: the sum of |w_i|. And l1 moves only one.",
        ],
    },
    "worst_mean_square": {
        "title": "Regularisation: the same adversary, one budget for all",
        "section": "'Linear models: the dual norm, exactly'",
        "minutes": 20,
        "difficulty": 2,
        "hints": [
            "With budgets d_i the loss is the mean of (|r_i| + |w| d_i)^2.",
            "That is a squared length, of the vector |r| + |w| d. When is a sum longest?",
            "When d points along |r|: the lengths add up. Mind the 1/n under both roots.",
        ],
    },
    "paying_adversary": {
        "title": "The penalised inner problem",
        "section": "'An adversary who pays'",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "The gradient of the price is 2 gamma (z - x).",
            "Put it into the step: z drops out, except inside the gradient of f.",
        ],
    },
    "distribution_bound": {
        "title": "A certificate from prices",
        "section": "'The certificate'",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "phi at a price is the mean of loss minus price times squared distance.",
            "Each price gives gamma rho + phi, and each of them is an upper bound.",
        ],
    },
}

CASES = [
    {
        "id": "worst_logistic.linf",
        "points": 1,
        "public": True,
        "hint": "Against linf the margin falls by eps times the sum of |w_i|.",
    },
    {
        "id": "worst_logistic.l2",
        "points": 1,
        "public": True,
        "hint": "l2 is its own dual; at eps = 0 nothing is added.",
    },
    {
        "id": "worst_logistic.l1",
        "points": 1,
        "public": False,
        "hint": "An l1 adversary spends all of eps on one coordinate.",
    },
    {
        "id": "worst_logistic.large",
        "points": 1,
        "public": False,
        "hint": "exp overflows at margins of a thousand: use logaddexp.",
        "needs": "worst_logistic.l2",
    },
    {
        "id": "worst_mean_square.value",
        "points": 2,
        "public": True,
        "hint": "Root of the mean square, plus eps |w|, squared.",
    },
    {
        "id": "worst_mean_square.uneven",
        "points": 1,
        "public": False,
        "hint": "Who is far off already gets more of the budget: not eps for each.",
        "needs": "worst_mean_square.value",
    },
    {
        "id": "paying_adversary.linear",
        "points": 1,
        "public": True,
        "hint": "For a constant gradient g the answer is x + g / (2 gamma), inside the box.",
    },
    {
        "id": "paying_adversary.curved",
        "points": 2,
        "public": True,
        "hint": "The gradient is taken at z, the step starts at x.",
    },
    {
        "id": "paying_adversary.box",
        "points": 1,
        "public": False,
        "hint": "Project after every step, not only at the end.",
        "needs": "paying_adversary.linear",
    },
    {
        "id": "distribution_bound.one",
        "points": 1,
        "public": True,
        "hint": "One price: gamma rho plus the mean of loss - gamma moved.",
    },
    {
        "id": "distribution_bound.best",
        "points": 1,
        "public": False,
        "hint": "All of them are upper bounds; the smallest is the best.",
        "needs": "distribution_bound.one",
    },
]


def sample(rng, n=5, d=4):
    return rng.standard_normal(d), float(rng.standard_normal()), rng.standard_normal((n, d))


def labels(rng, n=5):
    y = np.where(rng.random_sample(n) < 0.5, -1.0, 1.0)
    y[:2] = 1.0, -1.0
    return y


def probe_worst_logistic_linf(worst_logistic, rng):
    w, b, x = sample(rng)
    return {"loss": worst_logistic(w, b, x, labels(rng), 0.3, "linf")}


def probe_worst_logistic_l2(worst_logistic, rng):
    w, b, x = sample(rng)
    y = labels(rng)
    return {f"eps {eps:g}": worst_logistic(w, b, x, y, eps, "l2") for eps in (0.0, 0.5)}


def probe_worst_logistic_l1(worst_logistic, rng):
    w, b, x = sample(rng)
    w[1] = -3.0  # the largest is negative
    return {"loss": worst_logistic(w, b, x, labels(rng), 0.7, "l1")}


def probe_worst_logistic_large(worst_logistic, rng):
    w, b, x = sample(rng)
    y = labels(rng)
    x[0] = -2000 * y[0] * w / (w @ w)  # a margin of -2000, and one of 2000
    x[1] = 2000 * y[1] * w / (w @ w)
    with np.errstate(all="ignore"):
        return {"loss": worst_logistic(w, b, x, y, 0.5, "l2")}


def probe_worst_mean_square_value(worst_mean_square, rng):
    w, b, x = sample(rng, 6)
    return {"mean": worst_mean_square(w, b, x, rng.standard_normal(6), 0.4)}


def probe_worst_mean_square_uneven(worst_mean_square, rng):
    w, b, x = sample(rng, 6)
    y = x @ w + b
    y[0] += 5.0  # all others fit exactly
    return {"mean": worst_mean_square(w, b, x, y, 0.6)}


def probe_paying_adversary_linear(paying_adversary, rng):
    x, slope = 0.3 + 0.4 * rng.random_sample((4, 3)), 0.3 * rng.standard_normal((4, 3))
    kept = x.copy()
    z = paying_adversary(lambda z: slope, x, 2.0, 3)
    return {"z": z, "x has moved by": np.abs(x - kept).max()}


def probe_paying_adversary_curved(paying_adversary, rng):
    x, a = 0.3 + 0.4 * rng.random_sample((4, 3)), 0.6 + 0.3 * rng.random_sample((4, 3))
    gradient = lambda z: a * np.sin(4 * z)  # noqa: E731
    return {f"{steps} steps": paying_adversary(gradient, x, 4.0, steps) for steps in (1, 2, 6)}


def probe_paying_adversary_box(paying_adversary, rng):
    x = rng.random_sample((4, 3))
    x[0] = 0.9
    gradient = lambda z: 3.0 - 6.0 * z * z + 4.0 * (x > 0.5)  # noqa: E731
    return {f"{steps} steps": paying_adversary(gradient, x, 3.0, steps) for steps in (2, 3)}


def probe_distribution_bound_one(distribution_bound, rng):
    losses, moved = 1 + rng.random_sample((1, 5)), rng.random_sample((1, 5))
    bound = distribution_bound
    return {"bound": [bound(losses, moved, np.array([2.0]), rho) for rho in (0.0, 0.3)]}


def probe_distribution_bound_best(distribution_bound, rng):
    prices = np.array([0.5, 1.0, 2.0, 4.0])
    moved = rng.random_sample(6) / prices[:, None] ** 2
    losses = 0.5 + rng.random_sample(6) + 2 * prices[:, None] * moved
    return {"bound": [distribution_bound(losses, moved, prices, r) for r in (0.0, 0.1, 0.4, 2.0)]}
