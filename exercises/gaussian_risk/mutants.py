"""Wrong answers to Section 17.6.1 to 17.6.3, the cases each must lose, and what is said."""

THRESHOLD = "t = (mu[0] + mu[1]) / 2 + sigma**2 / gap * np.log(prior[0] / prior[1])"
EVERY_RISK = ["clean", "equal", "moved", "beyond", "beyond_unequal"]

MUTANTS = [
    {
        "name": "helps",
        "question": "threshold_risk",
        "swap": [("t - eps", "t + EPS"), ("t + eps", "t - eps"), ("t + EPS", "t + eps")],
        "loses": ["budget", "order"],
        "says": "Your adversary moves examples away from the threshold, which lowers the risk.",
    },
    {
        "name": "one_class",
        "question": "threshold_risk",
        "swap": [("t - eps", "t")],
        "loses": ["budget", "order"],
        "says": "You attack class 1 only; the adversary moves examples of both classes.",
    },
    {
        "name": "diameter",
        "question": "threshold_risk",
        "swap": [("t - eps", "t - eps / 2"), ("t + eps", "t + eps / 2")],
        "loses": ["budget", "order"],
        "says": "You move by eps / 2: eps is the radius of the neighbourhood, not its width.",
    },
    {
        "name": "no_priors",
        "question": "threshold_risk",
        "swap": [("prior[0] * lost0 + prior[1] * lost1", "(lost0 + lost1) / 2")],
        "loses": ["clean", "budget", "order"],
        "says": "You weigh the classes equally; the priors are given.",
    },
    {
        "name": "priors_swapped",
        "question": "threshold_risk",
        "swap": [("prior[0] * lost0 + prior[1] * lost1", "prior[1] * lost0 + prior[0] * lost1")],
        "loses": ["clean", "budget", "order"],
        "says": "Each class has the prior of the other one.",
    },
    {
        "name": "variance",
        "question": "threshold_risk",
        "swap": [("/ sigma", "/ sigma**2")],
        "loses": ["clean", "budget", "order"],
        "says": "You use the variance as the scale; sigma itself is the standard deviation.",
    },
    {
        "name": "best_labels",
        "question": "threshold_risk",
        "swap": [("lost0 = ", "mu = np.sort(mu)\n    lost0 = ")],
        "loses": ["order"],
        "says": "You sort the means, and judge another classifier: the classes belong to them.",
    },
    {
        "name": "printed",
        "question": "optimal_risk",
        "swap": [
            ("if gap <= 0:\n        return min(prior)", "if gap == 0:\n        return min(prior)")
        ],
        "loses": ["beyond", "beyond_unequal"],
        "says": "Beyond Delta / 2 your stationary point is a maximum: a constant does better.",
    },
    {
        "name": "half",
        "question": "optimal_risk",
        "swap": [("return min(prior)", "return 0.5")],
        "loses": ["beyond_unequal"],
        "says": "A constant classifier errs on one class only: with its prior, not always 1/2.",
    },
    {
        "name": "common_class",
        "question": "optimal_risk",
        "swap": [("min(prior)", "max(prior)")],
        "loses": ["beyond_unequal"],
        "says": "Your constant gives up the more common class; the other constant is better.",
    },
    {
        "name": "midpoint",
        "question": "optimal_risk",
        "swap": [(THRESHOLD, "t = (mu[0] + mu[1]) / 2")],
        "loses": ["clean", "moved"],
        "says": "Your threshold is the midpoint, which is best for equal priors only.",
    },
    {
        "name": "bayes",
        "question": "optimal_risk",
        "swap": [("sigma**2 / gap", "sigma**2 / (mu[1] - mu[0])")],
        "loses": ["moved"],
        "says": "You attack the Bayes threshold; with an adversary the best threshold moves away.",
    },
    {
        "name": "one_eps",
        "question": "optimal_risk",
        "swap": [("- 2 * eps", "- eps")],
        "loses": ["moved", "beyond", "beyond_unequal"],
        "says": "Both means move by eps towards each other: 2 eps is gone, you take one eps.",
    },
    {
        "name": "wrong_way",
        "question": "optimal_risk",
        "swap": [("np.log(prior[0] / prior[1])", "np.log(prior[1] / prior[0])")],
        "loses": ["clean", "moved"],
        "says": "Your threshold moves into the more common class; it should leave it more room.",
    },
    {
        "name": "no_budget",
        "question": "optimal_risk",
        "swap": [("t - eps", "t"), ("t + eps", "t")],
        "loses": ["equal", "moved", "beyond", "beyond_unequal"],
        "says": "You found the threshold with the adversary and the risk without it.",
    },
    {
        "name": "scale",
        "question": "optimal_risk",
        "swap": [(" / sigma)", ")")],
        "loses": EVERY_RISK,
        "says": "You forget sigma in the tails.",
    },
    {
        "name": "clean_direction",
        "question": "linear_classifier",
        "source": """def linear_classifier(mu, sigma, eps):
    w = mu / np.linalg.norm(mu)
    return w, ndtr(-(w @ mu - eps * np.abs(w).sum()) / sigma)
""",
        "loses": ["all_left", "some_gone", "none_left"],
        "says": "You keep the direction mu, the best one without an adversary only.",
    },
    {
        "name": "l2",
        "question": "linear_classifier",
        "swap": [("np.clip(mu, -eps, eps)", "mu * min(1.0, eps / np.linalg.norm(mu))")],
        "loses": ["all_left", "some_gone", "none_left"],
        "says": "You shorten mu by eps as a whole: that is the adversary of the l_2 ball.",
    },
    {
        "name": "past_zero",
        "question": "linear_classifier",
        "swap": [("np.clip(mu, -eps, eps)", "eps * np.sign(mu)")],
        "loses": ["some_gone", "none_left"],
        "says": "Small coordinates go past zero; the adversary stops where the means meet.",
    },
    {
        "name": "one_side",
        "question": "linear_classifier",
        "swap": [("np.clip(mu, -eps, eps)", "np.clip(mu, 0, eps)")],
        "loses": ["all_left", "some_gone", "none_left"],
        "says": "Negative coordinates of mu are not moved.",
    },
    {
        "name": "signs_lost",
        "question": "linear_classifier",
        "swap": [("left = mu - np.clip(mu, -eps, eps)", "left = np.maximum(np.abs(mu) - eps, 0)")],
        "loses": ["all_left", "some_gone", "none_left"],
        "says": "The sizes are right, the signs of mu are gone.",
    },
    {
        "name": "variance",
        "question": "linear_classifier",
        "swap": [("-length / sigma", "-length / sigma**2")],
        "loses": ["all_left", "some_gone", "none_left"],
        "says": "You divide by the variance; alpha is a length in standard deviations.",
    },
    {
        "name": "both_means",
        "question": "linear_classifier",
        "swap": [("-length / sigma", "-2 * length / sigma")],
        "loses": ["all_left", "some_gone", "none_left"],
        "says": "You take the distance of the two means; each is half of it from the boundary.",
    },
    {
        "name": "no_guard",
        "question": "linear_classifier",
        "swap": [("left / length if length > 0 else np.zeros_like(mu)", "left / length")],
        "loses": ["none_left"],
        "says": "Where nothing is left you divide 0 by 0.",
    },
    {
        "name": "no_adversary",
        "question": "optimal_interval",
        "swap": [("m0, m1 = mu[0] - shift, mu[1] + shift", "m0, m1 = mu[0], mu[1]")],
        "loses": ["budget", "priors"],
        "says": "That is the best interval without an adversary.",
    },
    {
        "name": "shifts_swapped",
        "question": "optimal_interval",
        "swap": [("mu[0] - shift, mu[1] + shift", "mu[0] + shift, mu[1] - shift")],
        "loses": ["budget", "priors"],
        "says": "You move the means the wrong way: at a, class 0 is lost where X < a + eps.",
    },
    {
        "name": "one_pair",
        "question": "optimal_interval",
        "swap": [("((eps, min), (-eps, max))", "((eps, min), (eps, max))")],
        "loses": ["budget", "priors"],
        "says": "You use the means of the left end for the right end, too.",
    },
    {
        "name": "fixed_means",
        "question": "optimal_interval",
        "swap": [("mu[1] + shift", "mu[1]")],
        "loses": ["budget", "priors"],
        "says": "You move the mean of class 0 only; the adversary moves both classes.",
    },
    {
        "name": "priors_lost",
        "question": "optimal_interval",
        "swap": [("prior[0] * sigma[1] / (prior[1] * sigma[0])", "sigma[1] / sigma[0]")],
        "loses": ["priors"],
        "says": "The priors are missing in your equation.",
    },
    {
        "name": "priors_swapped",
        "question": "optimal_interval",
        "swap": [
            (
                "prior[0] * sigma[1] / (prior[1] * sigma[0])",
                "prior[1] * sigma[1] / (prior[0] * sigma[0])",
            )
        ],
        "loses": ["priors"],
        "says": "Your interval shrinks where class 0 becomes more common: the priors are swapped.",
    },
    {
        "name": "densities",
        "question": "optimal_interval",
        "swap": [("prior[0] * sigma[1] / (prior[1] * sigma[0])", "prior[0] / prior[1]")],
        "loses": ["clean", "budget", "priors"],
        "says": "A normal density has the factor 1 / sigma; with two sigmas it does not cancel.",
    },
    {
        "name": "roots_swapped",
        "question": "optimal_interval",
        "swap": [("((eps, min), (-eps, max))", "((eps, max), (-eps, min))")],
        "loses": ["clean", "budget", "priors"],
        "says": "You took the other root of each equation.",
    },
]

ACCEPT = {
    "threshold_risk": [
        """def threshold_risk(t, mu, sigma, prior, eps):
    from math import erfc, sqrt
    out = []
    for s in t:
        up = erfc((s - eps - mu[0]) / sigma / sqrt(2)) / 2
        down = erfc(-(s + eps - mu[1]) / sigma / sqrt(2)) / 2
        out.append(prior[0] * up + prior[1] * down)
    return out
"""
    ],
    "optimal_risk": [
        """def optimal_risk(mu, sigma, prior, eps):
    # search over thresholds, and both constants
    from scipy.optimize import minimize_scalar

    def risk(t):
        low, high = (t - eps - mu[0]) / sigma, (t + eps - mu[1]) / sigma
        return prior[0] * ndtr(-low) + prior[1] * ndtr(high)

    span = (mu[0] - 9, mu[1] + 9)
    found = minimize_scalar(risk, bounds=span, method="bounded", options={"xatol": 1e-9})
    return min(found.fun, prior[0], prior[1])
"""
    ],
    "linear_classifier": [
        """def linear_classifier(mu, sigma, eps):
    v = np.sign(mu) * np.maximum(np.abs(mu) - eps, 0)
    size = np.sqrt((v**2).sum())
    return v / max(size, 1e-300), float(1 - ndtr(size / sigma))
"""
    ],
    "optimal_interval": [
        """def optimal_interval(mu, sigma, prior, eps):
    # each end where the log odds change their sign
    from scipy.optimize import brentq

    def odds(t, shift):
        means = mu[0] - shift, mu[1] + shift
        logs = [np.log(prior[k] / sigma[k]) - ((t - means[k]) / sigma[k]) ** 2 / 2 for k in (0, 1)]
        return logs[0] - logs[1]

    inside = mu[0]
    return (brentq(odds, inside - 20, inside, args=(eps,), xtol=1e-12),
            brentq(odds, inside, inside + 20, args=(-eps,), xtol=1e-12))
"""
    ],
}
