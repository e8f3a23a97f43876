"""Cases of Section 17.6.1 to 17.6.3. probe_* run in the sandbox, check_* outside it."""

import numpy as np

QUESTIONS = {
    "threshold_risk": {
        "title": "The risk of a threshold",
        "section": "17.6.3",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "Class 0 is an error when some point of [X - eps, X + eps] lies to the right of t.",
            "So class 0 is lost where X + eps > t, and class 1 where X - eps <= t.",
            "Each of the two is one normal tail; the priors weigh them.",
        ],
    },
    "optimal_risk": {
        "title": "The optimal risk, any priors and any budget",
        "section": "17.6.3",
        "minutes": 20,
        "difficulty": 2,
        "hints": [
            "Set the derivative of pi_0 (1 - Phi((t - eps - mu_0) / sigma)) + ... to zero.",
            "It is the Bayes threshold of two Gaussians that stand only Delta - 2 eps apart.",
            "A constant classifier cannot be attacked. What is its risk, with these priors?",
        ],
    },
    "linear_classifier": {
        "title": "The optimal classifier in R^d",
        "section": "17.6.3",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "With covariance sigma^2 I, z* is the nearest point to mu of the l_inf ball around 0.",
            "The ball is a cube: each coordinate of mu loses up to eps, towards zero.",
            "A feature with |mu_i| <= eps has no say: the adversary can turn its sign.",
        ],
    },
    "optimal_interval": {
        "title": "Unequal variances: the best interval",
        "section": "17.6.3",
        "minutes": 30,
        "difficulty": 3,
        "hints": [
            "The risk is a sum of a function of a and a function of b: two problems, one each.",
            "d/da: pi_0 p_0(a + eps) = pi_1 p_1(a - eps). As a density in a, p_0 has moved left.",
            "Take logarithms: a quadratic equation. Which root is the left end of the interval?",
        ],
    },
}

CASES = [
    {
        "id": "threshold_risk.clean",
        "points": 1,
        "public": True,
        "hint": "Without an adversary it is the probability of an error, weighed by the priors.",
    },
    {
        "id": "threshold_risk.budget",
        "points": 1,
        "public": True,
        "hint": "The adversary needs to reach t from a distance of at most eps, in both classes.",
    },
    {
        "id": "threshold_risk.order",
        "points": 1,
        "public": False,
        "hint": "h says class 1 on the right, even where the mean of class 1 is on the left.",
        "needs": "threshold_risk.clean",
    },
    {
        "id": "optimal_risk.clean",
        "points": 1,
        "public": True,
        "hint": "At eps = 0 it is the Bayes risk; the priors move the threshold.",
    },
    {
        "id": "optimal_risk.equal",
        "points": 1,
        "public": True,
        "hint": "With equal priors it is Phi((2 eps - Delta) / (2 sigma)), while eps < Delta / 2.",
    },
    {
        "id": "optimal_risk.moved",
        "points": 2,
        "public": False,
        "hint": "The best threshold with an adversary is not the one without.",
    },
    {
        "id": "optimal_risk.beyond",
        "points": 1,
        "public": True,
        "hint": "No optimal risk is above that of a constant classifier.",
        "needs": "optimal_risk.equal",
    },
    {
        "id": "optimal_risk.beyond_unequal",
        "points": 1,
        "public": False,
        "hint": "The better constant gives up the rarer class.",
        "needs": "optimal_risk.equal",
    },
    {
        "id": "linear_classifier.all_left",
        "points": 1,
        "public": True,
        "hint": "Where every |mu_i| > eps, each one loses exactly eps, towards zero.",
    },
    {
        "id": "linear_classifier.some_gone",
        "points": 1,
        "public": True,
        "hint": "A coordinate with |mu_i| <= eps goes to zero and not past it.",
    },
    {
        "id": "linear_classifier.none_left",
        "points": 1,
        "public": False,
        "hint": "Where the adversary can bring both means together, w = 0 and the risk is 1/2.",
        "needs": "linear_classifier.some_gone",
    },
    {
        "id": "optimal_interval.clean",
        "points": 1,
        "public": True,
        "hint": "Without an adversary the ends are where the weighted densities agree.",
    },
    {
        "id": "optimal_interval.budget",
        "points": 2,
        "public": True,
        "hint": "Each end has its own pair of moved means.",
    },
    {
        "id": "optimal_interval.priors",
        "points": 2,
        "public": False,
        "hint": "The logarithm holds the priors and the standard deviations.",
    },
]


def between(rng, low, high):
    return float(low + (high - low) * rng.random_sample())


def probe_threshold_risk_clean(threshold_risk, rng):
    mu, prior = np.array([between(rng, -2, -1), between(rng, 0, 1)]), np.array([0.3, 0.7])
    return {"risk": threshold_risk(np.linspace(-2, 2, 9), mu, between(rng, 0.5, 0.9), prior, 0.0)}


def probe_threshold_risk_budget(threshold_risk, rng):
    mu, first = np.array([between(rng, -1.5, -1), between(rng, 0.5, 1)]), between(rng, 0.6, 0.8)
    prior, sigma, eps = np.array([first, 1 - first]), between(rng, 0.6, 0.9), between(rng, 0.4, 1.6)
    return {"risk": threshold_risk(np.linspace(-2, 2, 9), mu, sigma, prior, eps)}


def probe_threshold_risk_order(threshold_risk, rng):
    mu, prior = np.array([between(rng, 1, 2), between(rng, -2, -1)]), np.array([0.4, 0.6])
    risk = threshold_risk(np.linspace(-2, 2, 9), mu, between(rng, 0.5, 0.9), prior, 0.3)
    return {"risk": risk}


def several(optimal_risk, rng, shares, first):
    """The risk at several shares of the budget Delta / 2."""
    mu = np.array([between(rng, -1.2, -0.8), between(rng, 0.8, 1.2)])
    prior, sigma = np.array([first, 1 - first]), between(rng, 0.7, 1.1)
    half = (mu[1] - mu[0]) / 2
    return {"risk": [optimal_risk(mu, sigma, prior, share * half) for share in shares]}


def probe_optimal_risk_clean(optimal_risk, rng):
    return several(optimal_risk, rng, (0.0,), between(rng, 0.65, 0.8))


def probe_optimal_risk_equal(optimal_risk, rng):
    return several(optimal_risk, rng, (0.2, 0.5, 0.9), 0.5)


def probe_optimal_risk_moved(optimal_risk, rng):
    return several(optimal_risk, rng, (0.3, 0.5), between(rng, 0.2, 0.35))


def probe_optimal_risk_beyond(optimal_risk, rng):
    return several(optimal_risk, rng, (1.3, 2.0), 0.5)


def probe_optimal_risk_beyond_unequal(optimal_risk, rng):
    return several(optimal_risk, rng, (1.0, 1.4, 3.0), between(rng, 0.6, 0.8))


def answer(linear_classifier, mu, sigma, eps):
    w, risk = linear_classifier(mu, sigma, eps)
    return {"w": w, "risk": risk}


def probe_linear_classifier_all_left(linear_classifier, rng):
    mu = np.array([0.9, -0.6, 0.5, -1.2]) + 0.2 * rng.random_sample(4)
    return answer(linear_classifier, mu, between(rng, 0.7, 0.9), between(rng, 0.2, 0.3))


def probe_linear_classifier_some_gone(linear_classifier, rng):
    mu = np.array([1.0, -0.2, 0.1, -0.8, 0.25]) + 0.05 * rng.random_sample(5)
    return answer(linear_classifier, mu, between(rng, 1.2, 1.4), between(rng, 0.35, 0.45))


def probe_linear_classifier_none_left(linear_classifier, rng):
    mu = 0.3 * (2 * rng.random_sample(4) - 1)
    return answer(linear_classifier, mu, between(rng, 0.5, 2.0), 0.4)


def interval(optimal_interval, mu, sigma, prior, eps):
    a, b = optimal_interval(mu, sigma, prior, eps)
    return {"a": a, "b": b}


def probe_optimal_interval_clean(optimal_interval, rng):
    mu, sigma = np.array([0.0, between(rng, 0.3, 0.6)]), np.array([0.8, between(rng, 1.8, 2.2)])
    return interval(optimal_interval, mu, sigma, np.array([0.5, 0.5]), 0.0)


def probe_optimal_interval_budget(optimal_interval, rng):
    mu, sigma = np.array([0.5, between(rng, 1.0, 1.3)]), np.array([0.9, between(rng, 1.9, 2.2)])
    return interval(optimal_interval, mu, sigma, np.array([0.5, 0.5]), between(rng, 0.2, 0.3))


def probe_optimal_interval_priors(optimal_interval, rng):
    mu, sigma = np.array([-0.4, between(rng, 0.2, 0.5)]), np.array([1.0, between(rng, 2.4, 2.8)])
    first = between(rng, 0.6, 0.7)
    return interval(optimal_interval, mu, sigma, np.array([first, 1 - first]), 0.35)
