"""Wrong answers to Section 17.5, the cases each must lose, and what its author is told."""

DIAGONALS = "K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))"

MUTANTS = [
    {
        "name": "uncentred",
        "question": "hsic",
        "swap": [("K @ h @ L @ h", "K @ L")],
        "loses": ["values", "means", "kernel"],
        "says": "H is missing: you compare the means of the features, too.",
    },
    {
        "name": "one_side",
        "question": "hsic",
        "swap": [("K @ h @ L @ h", "K @ L @ h")],
        "loses": ["values", "means", "kernel"],
        "says": "H stands on both sides of L: rows and columns are centred.",
    },
    {
        "name": "divided_by_n",
        "question": "hsic",
        "swap": [("(n - 1) ** 2", "n**2")],
        "loses": ["values", "means", "kernel"],
        "says": "The denominator is (n - 1) squared.",
    },
    {
        "name": "not_squared",
        "question": "hsic",
        "swap": [("(n - 1) ** 2", "(n - 1)")],
        "loses": ["values", "means", "kernel"],
        "says": "n - 1 is squared in the denominator.",
    },
    {
        "name": "centring_of_ones",
        "question": "hsic",
        "swap": [("np.ones((n, n)) / n", "np.ones((n, n))")],
        "loses": ["values", "means", "kernel"],
        "says": "Your H subtracts sums, not means: the ones are divided by n.",
    },
    {
        "name": "grand_mean",
        "question": "hsic",
        "source": """def hsic(K, L):
    return float(((K - K.mean()) * (L - L.mean())).sum()) / (len(K) - 1) ** 2
""",
        "loses": ["values", "means", "kernel"],
        "says": "You subtract one mean from the whole matrix; every row and column has its own.",
    },
    {
        "name": "normalised",
        "question": "hsic",
        "source": """def hsic(K, L):
    n = len(K)
    h = np.eye(n) - np.ones((n, n)) / n
    K, L = h @ K @ h, h @ L @ h
    return float((K * L).sum() / (np.linalg.norm(K) * np.linalg.norm(L)))
""",
        "loses": ["values", "means", "kernel"],
        "says": "That is CKA already; HSIC is not divided by norms.",
    },
    {
        "name": "uncentred",
        "question": "linear_cka",
        "swap": [("a, b = a - a.mean(axis=0), b - b.mean(axis=0)", "pass")],
        "loses": ["means", "scales"],
        "says": "You do not centre: what is compared is mostly the means.",
    },
    {
        "name": "centred_examples",
        "question": "linear_cka",
        "swap": [
            (
                "a.mean(axis=0), b - b.mean(axis=0)",
                "a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)",
            )
        ],
        "loses": ["widths", "means", "scales"],
        "says": "You centre every example over its features: the mean runs over the examples.",
    },
    {
        "name": "one_mean",
        "question": "linear_cka",
        "swap": [("a.mean(axis=0), b - b.mean(axis=0)", "a.mean(), b - b.mean()")],
        "loses": ["means", "scales"],
        "says": "You subtract one mean for all features; each has its own.",
    },
    {
        "name": "one_centred",
        "question": "linear_cka",
        "swap": [("b - b.mean(axis=0)", "b")],
        "loses": ["means", "scales"],
        "says": "Only the first representation is centred; the denominator needs both.",
    },
    {
        "name": "standardised",
        "question": "linear_cka",
        "swap": [("    own =", "    a, b = a / a.std(axis=0), b / b.std(axis=0)\n    own =")],
        "loses": ["widths", "means", "scales"],
        "says": "You give every feature unit variance; CKA weighs features by their variance.",
    },
    {
        "name": "not_squared",
        "question": "linear_cka",
        "swap": [(" ** 2 / own", " / np.sqrt(own)")],
        "loses": ["widths", "means", "scales"],
        "says": "That is the square root of CKA: the Frobenius norm above is squared.",
    },
    {
        "name": "numerator_not_squared",
        "question": "linear_cka",
        "swap": [(" ** 2 / own", " / own")],
        "loses": ["widths", "means", "scales"],
        "says": "The numerator is not squared, so your value depends on the scale of the features.",
    },
    {
        "name": "spectral",
        "question": "linear_cka",
        "swap": [
            ("(a.T @ a)", "(a.T @ a, 2)"),
            ("(b.T @ b)", "(b.T @ b, 2)"),
            ("(a.T @ b)", "(a.T @ b, 2)"),
        ],
        "loses": ["widths", "means", "scales"],
        "says": "Those are spectral norms; the Frobenius norm is the root of a sum of squares.",
    },
    {
        "name": "projections",
        "question": "linear_cka",
        "swap": [("    own =", "    a, b = np.linalg.qr(a)[0], np.linalg.qr(b)[0]\n    own =")],
        "loses": ["widths", "means", "scales"],
        "says": "You compare the spaces that the features span; CKA also weighs directions.",
    },
    {
        "name": "biased",
        "question": "unbiased_hsic",
        "source": """def unbiased_hsic(K, L):
    n = len(K)
    h = np.eye(n) - np.ones((n, n)) / n
    return float(np.trace(K @ h @ L @ h)) / (n - 1) ** 2
""",
        "loses": ["four", "larger", "diagonal"],
        "says": "That is HSIC_0, with the diagonals and their bias.",
    },
    {
        "name": "diagonal_kept",
        "question": "unbiased_hsic",
        "swap": [(DIAGONALS, "pass")],
        "loses": ["four", "larger", "diagonal"],
        "says": "The diagonals are still there: the estimator is made of matrices without them.",
    },
    {
        "name": "overwritten",
        "question": "unbiased_hsic",
        "swap": [(DIAGONALS, "np.fill_diagonal(K, 0); np.fill_diagonal(L, 0)")],
        "loses": ["diagonal"],
        "says": "fill_diagonal changes the caller's matrices: work on copies.",
    },
    {
        "name": "centred_without_diagonal",
        "question": "unbiased_hsic",
        "source": """def unbiased_hsic(K, L):
    n = len(K)
    h = np.eye(n) - np.ones((n, n)) / n
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    return float(np.trace(K @ h @ L @ h)) / (n * (n - 3))
""",
        "loses": ["four", "larger", "diagonal"],
        "says": "Centring without the diagonals is still biased: the three terms are needed.",
    },
    {
        "name": "once",
        "question": "unbiased_hsic",
        "swap": [("rows = 2 /", "rows = 1 /")],
        "loses": ["four", "larger", "diagonal"],
        "says": "The last term counts twice, 2/(n-2).",
    },
    {
        "name": "third_added",
        "question": "unbiased_hsic",
        "swap": [("sums - rows", "sums + rows")],
        "loses": ["four", "larger", "diagonal"],
        "says": "The last term is subtracted.",
    },
    {
        "name": "sum_of_products",
        "question": "unbiased_hsic",
        "swap": [("(K.sum(axis=0) @ L.sum(axis=1))", "(K * L).sum()")],
        "loses": ["four", "larger", "diagonal"],
        "says": "1'KL1 sums the entries of the matrix product, not the products of the entries.",
    },
    {
        "name": "wrong_factor",
        "question": "unbiased_hsic",
        "swap": [("(n * (n - 3))", "(n - 1) ** 2")],
        "loses": ["four", "larger", "diagonal"],
        "says": "The factor in front is 1/(n(n-3)); 1/(n-1)^2 belongs to HSIC_0.",
    },
    {
        "name": "off_in_the_sums",
        "question": "unbiased_hsic",
        "swap": [("((n - 1) * (n - 2))", "(n * (n - 1))")],
        "loses": ["four", "larger", "diagonal"],
        "says": "The product of the sums is divided by (n-1)(n-2).",
    },
    {
        "name": "biased",
        "question": "unbiased_cka",
        "source": """def unbiased_cka(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    own = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(a.T @ b) ** 2 / own)
""",
        "loses": ["related", "independent", "means"],
        "says": "That is the biased estimate: independent features get about d/(n + d), not 0.",
    },
    {
        "name": "bias_under_the_root",
        "question": "unbiased_cka",
        "source": """def unbiased_cka(a, b):
    def estimate(K, L):
        n = len(K)
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
        sums = K.sum() * L.sum() / ((n - 1) * (n - 2))
        rows = 2 / (n - 2) * (K.sum(axis=0) @ L.sum(axis=1))
        return ((K * L).sum() + sums - rows) / (n * (n - 3))

    n, (a, b) = len(a), (a - a.mean(axis=0), b - b.mean(axis=0))
    own = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b) / (n - 1) ** 2
    return float(estimate(a @ a.T, b @ b.T) / own)
""",
        "loses": ["related", "independent", "means"],
        "says": "Your denominator is the biased HSIC: all three estimates are HSIC_1.",
    },
    {
        "name": "clipped",
        "question": "unbiased_cka",
        "swap": [("return float(", "return max(0.0, "), ("estimate(L, L)))", "estimate(L, L)))")],
        "loses": ["independent"],
        "says": "You cut negative estimates off, and what is left has a bias again.",
    },
    {
        "name": "absolute",
        "question": "unbiased_cka",
        "swap": [("return float(", "return abs(")],
        "loses": ["independent"],
        "says": "The absolute value turns an estimate around 0 into a positive one.",
    },
    {
        "name": "no_root",
        "question": "unbiased_cka",
        "swap": [("np.sqrt(estimate(K, K) * estimate(L, L))", "(estimate(K, K) * estimate(L, L))")],
        "loses": ["related", "independent", "means"],
        "says": "The square root in the denominator is missing.",
    },
    {
        "name": "diagonal_only",
        "question": "unbiased_cka",
        "swap": [("((K * L).sum() + sums - rows)", "(K * L).sum()")],
        "loses": ["related", "independent", "means"],
        "says": "You leave the diagonals out and stop there: the two other terms do the centring.",
    },
    {
        "name": "feature_kernels",
        "question": "unbiased_cka",
        "source": """def unbiased_cka(a, b):
    def estimate(K, L):
        n = len(K)
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
        sums = K.sum() * L.sum() / ((n - 1) * (n - 2))
        rows = 2 / (n - 2) * (K.sum(axis=0) @ L.sum(axis=1))
        return ((K * L).sum() + sums - rows) / (n * (n - 3))

    m = min(a.shape[1], b.shape[1])
    K, L = a[:, :m].T @ a[:, :m], b[:, :m].T @ b[:, :m]
    return float(estimate(K, L) / np.sqrt(np.abs(estimate(K, K) * estimate(L, L)) + 1e-12))
""",
        "loses": ["related", "independent", "means"],
        "says": "Your matrices compare features; K = AA' compares examples, shape (n, n).",
    },
    {
        "name": "one_norm",
        "question": "unbiased_cka",
        "swap": [("estimate(K, K) * estimate(L, L)", "estimate(K, K) * estimate(K, K)")],
        "loses": ["related", "independent", "means"],
        "says": "You divide by the first representation's own value twice.",
    },
]

ACCEPT = {
    "hsic": [
        """def hsic(K, L):
    K = K - K.mean(0) - K.mean(1)[:, None] + K.mean()
    return (K * L).sum() / (len(K) - 1) ** 2
"""
    ],
    "linear_cka": [
        """def linear_cka(a, b):
    n = len(a)
    h = np.eye(n) - 1 / n
    K, L = h @ a @ a.T @ h, h @ b @ b.T @ h
    return np.vdot(K, L) / np.sqrt(np.vdot(K, K) * np.vdot(L, L))
"""
    ],
    "unbiased_hsic": [
        """def unbiased_hsic(K, L):
    # a mean over all quadruples of different examples
    from itertools import permutations
    total, count = 0.0, 0
    for i, j, q, r in permutations(range(len(K)), 4):
        total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
        count += 1
    return total / count
"""
    ],
    "unbiased_cka": [
        """def unbiased_cka(a, b):
    # U-centred Gram matrices, Szekely and Rizzo
    def centred(z):
        z = z - z.mean(0)
        K = z @ z.T
        np.fill_diagonal(K, 0)
        n = len(K)
        rows = K.sum(0) / (n - 2)
        K = K - rows - rows[:, None] + K.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(K, 0)
        return K

    K, L = centred(a), centred(b)
    return np.sum(K * L) / np.sqrt(np.sum(K * K) * np.sum(L * L))
"""
    ],
}
