"""Wrong answers on robust objectives, the cases each must lose, and what its author is told."""

DUAL = '{"linf": 1, "l2": 2, "l1": np.inf}[norm]'
WORST = "np.logaddexp(0, reach - y * (x @ w + b))"
SQUARE = "return float((np.sqrt(plain) + eps * np.linalg.norm(w)) ** 2)"
STEP = "np.clip(x + gradient(z) / (2 * gamma), 0.0, 1.0)"

MUTANTS = [
    {
        "name": "same_norm",
        "question": "worst_logistic",
        "swap": [(DUAL, '{"linf": np.inf, "l2": 2, "l1": 1}[norm]')],
        "loses": ["linf", "l1"],
        "says": "You take the norm of the ball; the reach is eps times the dual norm of w.",
    },
    {
        "name": "always_l2",
        "question": "worst_logistic",
        "swap": [(DUAL, "2")],
        "loses": ["linf", "l1"],
        "says": "You take the l2 norm for every ball.",
    },
    {
        "name": "helping",
        "question": "worst_logistic",
        "swap": [("reach - y", "-reach - y")],
        "loses": ["linf", "l2", "l1", "large"],
        "says": "Your adversary raises the margin; it should lower it.",
    },
    {
        "name": "outside",
        "question": "worst_logistic",
        "swap": [(WORST, "reach + np.logaddexp(0, -y * (x @ w + b))")],
        "loses": ["linf", "l2", "l1", "large"],
        "says": "You add the norm to the loss; in the ball it stands inside the loss.",
    },
    {
        "name": "overflow",
        "question": "worst_logistic",
        "swap": [(WORST, "np.log(1 + np.exp(reach - y * (x @ w + b)))")],
        "loses": ["large"],
        "says": "exp overflows for large margins.",
    },
    {
        "name": "each_eps",
        "question": "worst_mean_square",
        "swap": [
            (
                SQUARE,
                "return float(np.mean((np.abs(x @ w + b - y) + eps * np.linalg.norm(w)) ** 2))",
            )
        ],
        "loses": ["value", "uneven"],
        "says": "You give each example the same eps; with one budget the large residuals get more.",
    },
    {
        "name": "added",
        "question": "worst_mean_square",
        "swap": [(SQUARE, "return float(plain + eps * np.linalg.norm(w))")],
        "loses": ["value", "uneven"],
        "says": "That is the form for hinge and logistic loss in W_1; here the roots add.",
    },
    {
        "name": "no_cross_term",
        "question": "worst_mean_square",
        "swap": [(SQUARE, "return float(plain + eps**2 * np.sum(w**2))")],
        "loses": ["value", "uneven"],
        "says": "You add the squares; the adversary can make the lengths add.",
    },
    {
        "name": "spread_when_even",
        "question": "worst_mean_square",
        "swap": [
            (
                SQUARE,
                "r = np.abs(x @ w + b - y)\n"
                "    even = np.mean((r + eps * np.linalg.norm(w)) ** 2)\n"
                "    best = float((np.sqrt(plain) + eps * np.linalg.norm(w)) ** 2)\n"
                "    return float(even) if np.median(r) < 1e-6 else best",
            )
        ],
        "loses": ["uneven"],
        "says": "Where most examples fit exactly the budget belongs to the others.",
    },
    {
        "name": "half_price",
        "question": "paying_adversary",
        "swap": [("(2 * gamma)", "gamma")],
        "loses": ["linear", "curved", "box"],
        "says": "The price is gamma times the squared distance: its gradient is 2 gamma (z - x).",
    },
    {
        "name": "from_z",
        "question": "paying_adversary",
        "swap": [("np.clip(x + ", "np.clip(z + ")],
        "loses": ["linear", "curved", "box"],
        "says": "You forget the gradient of the price: your z walks away from x.",
    },
    {
        "name": "frozen_gradient",
        "question": "paying_adversary",
        "swap": [("gradient(z)", "gradient(x)")],
        "loses": ["curved", "box"],
        "says": "You take the gradient at x in every step; it belongs to the present point.",
    },
    {
        "name": "descent",
        "question": "paying_adversary",
        "swap": [("x + gradient(z)", "x - gradient(z)")],
        "loses": ["linear", "curved", "box"],
        "says": "You minimise; the adversary maximises.",
    },
    {
        "name": "no_box",
        "question": "paying_adversary",
        "swap": [(STEP, "x + gradient(z) / (2 * gamma)")],
        "loses": ["box"],
        "says": "Your point leaves the box.",
    },
    {
        "name": "box_at_the_end",
        "question": "paying_adversary",
        "swap": [(STEP, "x + gradient(z) / (2 * gamma)"), ("return z", "return np.clip(z, 0, 1)")],
        "loses": ["box"],
        "says": "You project once at the end: the gradients in between are taken outside the box.",
    },
    {
        "name": "unpaid",
        "question": "distribution_bound",
        "swap": [("(losses - prices[:, None] * moved)", "losses")],
        "loses": ["one", "best"],
        "says": "phi is the loss minus what the move costs.",
    },
    {
        "name": "no_budget",
        "question": "distribution_bound",
        "swap": [("prices * rho + surrogate", "surrogate")],
        "loses": ["one", "best"],
        "says": "The bound is gamma rho plus phi: you leave out gamma rho.",
    },
    {
        "name": "worst_price",
        "question": "distribution_bound",
        "swap": [("np.min", "np.max")],
        "loses": ["best"],
        "says": "You return the weakest of the bounds.",
    },
    {
        "name": "summed",
        "question": "distribution_bound",
        "swap": [("mean(axis=1)", "sum(axis=1)")],
        "loses": ["one", "best"],
        "says": "You sum over the examples; the bound is on a mean.",
    },
]

ACCEPT = {
    "worst_logistic": [
        """def worst_logistic(w, b, x, y, eps, norm):
    size = np.abs(w)
    reach = {"linf": size.sum(), "l2": np.sqrt((w * w).sum()), "l1": size.max()}[norm]
    s = y * (x.dot(w) + b) - eps * reach
    return np.maximum(-s, 0) + np.log1p(np.exp(-np.abs(s)))
"""
    ],
    "worst_mean_square": [
        """def worst_mean_square(w, b, x, y, eps):
    # the budget along the residuals, and the loss it gives
    r = np.abs(x.dot(w) + b - y)
    budget = eps * r / np.sqrt(np.mean(r**2))
    return np.mean((r + np.sqrt(w.dot(w)) * budget) ** 2)
"""
    ],
    "paying_adversary": [
        """def paying_adversary(gradient, x, gamma, steps):
    z = x.copy()
    for _ in range(steps):
        rise = gradient(z) - 2 * gamma * (z - x)
        z = np.minimum(np.maximum(z + rise / (2 * gamma), 0), 1)
    return z
"""
    ],
    "distribution_bound": [
        """def distribution_bound(losses, moved, prices, rho):
    best = float("inf")
    for loss, paid, price in zip(losses, moved, prices):
        best = min(best, price * (rho - paid.mean()) + loss.mean())
    return best
"""
    ],
}
