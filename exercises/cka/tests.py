"""Cases of Section 17.5. probe_* run in the sandbox, check_* outside it and on plain arrays."""

import numpy as np

QUESTIONS = {
    "hsic": {
        "title": "HSIC",
        "section": "17.5.1",
        "minutes": 5,
        "difficulty": 1,
        "hints": [
            "H is the identity minus a matrix whose entries are all 1/n.",
            "H subtracts means: H K H takes the mean of every column and every row away.",
        ],
    },
    "linear_cka": {
        "title": "Linear CKA, from features",
        "section": "17.5.1",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "A feature is a column: its mean runs over the examples, axis 0.",
            "Only the numerator is squared: it meets two norms in the denominator.",
            "Check yourself: the CKA of a with itself is 1, and with 3 a + 5, too.",
        ],
    },
    "unbiased_hsic": {
        "title": "HSIC without bias",
        "section": "17.5.2",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "K - np.diag(np.diag(K)) is a copy without the diagonal.",
            "tr(K L) of symmetric matrices is the sum of their entries' products.",
            "1'KL1 is the inner product of the row sums of K and of L.",
        ],
    },
    "unbiased_cka": {
        "title": "CKA without bias",
        "section": "17.5.2",
        "minutes": 20,
        "difficulty": 3,
        "hints": [
            "Write the estimate of HSIC once, inside, and call it three times.",
            "HSIC_1 of K with itself stands under the root, not HSIC_0.",
            "No clipping and no absolute value: half of all estimates of 0 are negative.",
        ],
    },
}

CASES = [
    {
        "id": "hsic.values",
        "points": 1,
        "public": True,
        "hint": "tr(K H L H), divided by (n - 1) squared.",
    },
    {
        "id": "hsic.means",
        "points": 1,
        "public": True,
        "hint": "Features with means: the centring has to take them out.",
    },
    {
        "id": "hsic.kernel",
        "points": 1,
        "public": False,
        "hint": "Gram matrices of any kernel, not only of features.",
    },
    {
        "id": "linear_cka.widths",
        "points": 1,
        "public": True,
        "hint": "Two widths: A'B has shape (d, p).",
    },
    {
        "id": "linear_cka.means",
        "points": 1,
        "public": True,
        "hint": "Each feature has a mean of its own, which has to go.",
    },
    {
        "id": "linear_cka.scales",
        "points": 1,
        "public": False,
        "hint": "One factor for all features changes nothing; a factor for each does, and must.",
    },
    {
        "id": "unbiased_hsic.four",
        "points": 1,
        "public": True,
        "hint": "n = 4: the factor in front is 1/4.",
    },
    {
        "id": "unbiased_hsic.larger",
        "points": 2,
        "public": True,
        "hint": "Three terms with three factors in n: compare each with the formula.",
    },
    {
        "id": "unbiased_hsic.diagonal",
        "points": 1,
        "public": False,
        "hint": "Whatever stands on the diagonals must not matter, and must still stand there.",
    },
    {
        "id": "unbiased_cka.related",
        "points": 1,
        "public": True,
        "hint": "Two representations with a part in common, on few examples.",
    },
    {
        "id": "unbiased_cka.independent",
        "points": 2,
        "public": True,
        "hint": "Twenty independent pairs: the estimates scatter around 0, on both sides.",
    },
    {
        "id": "unbiased_cka.means",
        "points": 1,
        "public": False,
        "hint": "Constants on features change nothing, nor does one factor for all of them.",
        "needs": "unbiased_cka.related",
    },
]


def gram(rng, n, d, mean=0.0):
    features = rng.standard_normal((n, d)) + mean
    return features @ features.T


def probe_hsic_values(hsic, rng):
    z = rng.standard_normal((7, 3))
    other = z + rng.standard_normal((7, 3))
    return {"hsic": hsic(z @ z.T, other @ other.T)}


def probe_hsic_means(hsic, rng):
    means = 2 + rng.random_sample((2, 4))
    return {"hsic": hsic(gram(rng, 6, 4, means[0]), gram(rng, 6, 4, -means[1]))}


def probe_hsic_kernel(hsic, rng):
    z, other = rng.standard_normal((2, 9, 2))
    distances = ((z[:, None] - z) ** 2).sum(axis=2)
    return {"hsic": hsic(5 * np.exp(-distances / 2), (1 + other @ other.T) ** 2)}


def probe_linear_cka_widths(linear_cka, rng):
    a = rng.standard_normal((12, 3))
    b = np.concatenate([a, rng.standard_normal((12, 4))], axis=1)
    return {"cka": linear_cka(a - a.mean(axis=0), b - b.mean(axis=0))}


def probe_linear_cka_means(linear_cka, rng):
    a, b = rng.standard_normal((15, 4)), rng.standard_normal((15, 6))
    return {"cka": linear_cka(a + [3.0, -2.0, 5.0, 1.0], b + 4 * rng.standard_normal(6))}


def probe_linear_cka_scales(linear_cka, rng):
    a = rng.standard_normal((10, 4))
    stretched = a * [1.0, 5.0, 0.2, 2.0] + [1.0, 0.0, -1.0, 2.0]
    return {"cka": [linear_cka(a, stretched), linear_cka(1e-3 * a, 1e3 * stretched)]}


def probe_unbiased_hsic_four(unbiased_hsic, rng):
    return {"hsic": unbiased_hsic(gram(rng, 4, 3, 1.0), gram(rng, 4, 2, 1.0))}


def probe_unbiased_hsic_larger(unbiased_hsic, rng):
    return {"hsic": unbiased_hsic(gram(rng, 7, 4, 1.0), gram(rng, 7, 5, 0.5))}


def probe_unbiased_hsic_diagonal(unbiased_hsic, rng):
    K, L = gram(rng, 6, 3, 0.5), gram(rng, 6, 2, 0.5)
    plain = unbiased_hsic(K.copy(), L.copy())
    K, L = K + 10 * np.eye(6), L + np.diag(5.0 * np.arange(6))
    before = K.copy(), L.copy()
    raised = unbiased_hsic(K, L)
    kept = [(K == before[0]).all(), (L == before[1]).all()]
    return {"plain": plain, "raised": raised, "kept": kept}


def probe_unbiased_cka_related(unbiased_cka, rng):
    a = rng.standard_normal((12, 5))
    b = np.concatenate([a[:, :3], rng.standard_normal((12, 6))], axis=1)
    return {"cka": unbiased_cka(a, b)}


def probe_unbiased_cka_independent(unbiased_cka, rng):
    pairs = [(rng.standard_normal((10, 40)), rng.standard_normal((10, 30))) for _ in range(20)]
    return {"cka": [unbiased_cka(a, b) for a, b in pairs]}


def probe_unbiased_cka_means(unbiased_cka, rng):
    a = rng.standard_normal((9, 4))
    b = a @ rng.standard_normal((4, 5)) + rng.standard_normal((9, 5))
    return {"cka": [unbiased_cka(a, b), unbiased_cka(7 * a + [1.0, -4.0, 2.0, 3.0], 0.1 * b - 2)]}
