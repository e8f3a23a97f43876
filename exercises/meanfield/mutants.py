"""Wrong answers to the mean field part, the cases each must lose, and what its author is told."""

STABLE = "torch.exp(rate - rate.amax(dim=1, keepdim=True))"
MEAN = "mean = (omega * payoff).sum(dim=1, keepdim=True)"

MUTANTS = [
    {
        "name": "whole_table",
        "question": "replicator",
        "swap": [("grown.sum(dim=1, keepdim=True)", "grown.sum() * len(omega)")],
        "loses": ["rows", "large", "zero"],
        "says": "You normalise the whole table: mass then goes from one point of data to another.",
    },
    {
        "name": "descends",
        "question": "replicator",
        "swap": [("rate = kappa * payoff", "rate = -kappa * payoff")],
        "loses": ["rows", "large", "zero"],
        "says": "Your weights grow where the payoff is small; the adversary ascends.",
    },
    {
        "name": "first_order",
        "question": "replicator",
        "swap": [
            (
                "grown = omega * " + STABLE,
                "grown = omega * (1 + rate - (omega * rate).sum(dim=1, keepdim=True))",
            )
        ],
        "loses": ["rows", "large", "zero"],
        "says": "That is one Euler step; the solution is an exponential.",
    },
    {
        "name": "overflows",
        "question": "replicator",
        "swap": [(STABLE, "torch.exp(rate)")],
        "loses": ["large"],
        "says": "exp overflows for large payoffs, and inf / inf is not a number.",
    },
    {
        "name": "shift_of_the_table",
        "question": "replicator",
        "swap": [(STABLE, "torch.exp(rate - rate.max())")],
        "loses": ["large"],
        "says": "You subtract the largest rate of the table; a row far below it gives 0 / 0.",
    },
    {
        "name": "floor",
        "question": "replicator",
        "swap": [("grown = omega *", "grown = omega.clamp(min=1e-2) *")],
        "loses": ["zero"],
        "says": "You lift weights that are zero; what has no mass cannot grow.",
    },
    {
        "name": "labels_stay",
        "question": "wfr_step",
        "swap": [("-2 * residual - 2 * cost * wrong", "0 * residual")],
        "loses": ["positions"],
        "says": "Your labels stay where they are; the lecture's adversary moves them too.",
    },
    {
        "name": "down_the_hill",
        "question": "wfr_step",
        "swap": [("z + eta * rise", "z - eta * rise")],
        "loses": ["positions"],
        "says": "Your attacks go down; the adversary ascends.",
    },
    {
        "name": "label_sign",
        "question": "wfr_step",
        "swap": [("-2 * residual - 2 * cost * wrong", "2 * residual - 2 * cost * wrong")],
        "loses": ["positions"],
        "says": "(f - y)^2 falls as the label y rises towards f: its derivative is -2 (f - y).",
    },
    {
        "name": "no_chain_rule",
        "question": "wfr_step",
        "swap": [("2 * residual * slope(inputs)", "2 * residual")],
        "loses": ["positions"],
        "says": "The derivative of (f(x) - y)^2 in x has the factor f'(x).",
    },
    {
        "name": "velocity_times_weight",
        "question": "wfr_step",
        "swap": [("z + eta * rise", "z + eta * omega[..., None] * rise")],
        "loses": ["positions"],
        "says": "The velocity of a particle does not depend on its weight.",
    },
    {
        "name": "mean_of_all",
        "question": "wfr_step",
        "swap": [(MEAN, "mean = (omega * payoff).sum() / len(x)")],
        "loses": ["weights", "marginal"],
        "says": "You subtract the mean over all points of data; the marginal is then not kept.",
    },
    {
        "name": "plain_mean",
        "question": "wfr_step",
        "swap": [(MEAN, "mean = payoff.mean(dim=1, keepdim=True)")],
        "loses": ["weights", "marginal"],
        "says": "Your conditional mean ignores the weights, so the rows do not keep their sums.",
    },
    {
        "name": "growth_without_weight",
        "question": "wfr_step",
        "swap": [("omega + kappa * omega * (payoff - mean)", "omega + kappa * (payoff - mean)")],
        "loses": ["weights", "marginal"],
        "says": "The growth is proportional to the weight: omega is missing in the second term.",
    },
    {
        "name": "free_moves",
        "question": "wfr_step",
        "swap": [("residual**2 - cost * away**2 - cost * wrong**2", "residual**2")],
        "loses": ["weights", "marginal"],
        "says": "The payoff lacks the price of moving.",
    },
    {
        "name": "rescaled",
        "question": "wfr_step",
        "swap": [
            (MEAN, "mean = payoff.mean(dim=1, keepdim=True)"),
            (
                "return z + eta * rise, omega + kappa * omega * (payoff - mean)",
                "new = omega + kappa * omega * (payoff - mean)\n"
                "    return z + eta * rise, new / new.sum()",
            ),
        ],
        "loses": ["weights", "marginal"],
        "says": "You repair the total mass, not the mass of each point of data.",
    },
    {
        "name": "one_best_attack",
        "question": "nikaido_isoda",
        "swap": [("(payoff @ alpha).amax(dim=1).mean()", "(payoff @ alpha).max()")],
        "loses": ["value", "saddle"],
        "says": "You let all mass go to the best point of data; each point keeps its own mass.",
    },
    {
        "name": "one_neuron_a_point",
        "question": "nikaido_isoda",
        "swap": [(".sum(dim=1).mean(dim=0).min()", ".sum(dim=1).amin(dim=1).mean()")],
        "loses": ["value", "saddle"],
        "says": "You give each point its own neuron; the learner has one mixture for all points.",
    },
    {
        "name": "swapped",
        "question": "nikaido_isoda",
        "swap": [("return attack - response", "return response - attack")],
        "loses": ["value", "saddle"],
        "says": "The error is the best attack minus the best response; it is never negative.",
    },
    {
        "name": "against_the_value",
        "question": "nikaido_isoda",
        "swap": [
            (
                "response = (omega[..., None] * payoff).sum(dim=1).mean(dim=0).min()",
                "response = (omega * (payoff @ alpha)).sum(dim=1).mean()",
            )
        ],
        "loses": ["value", "saddle"],
        "says": "You measure what the adversary alone could gain; the learner's gain is missing.",
    },
    {
        "name": "sum_over_points",
        "question": "nikaido_isoda",
        "swap": [
            (".amax(dim=1).mean()", ".amax(dim=1).sum()"),
            (".mean(dim=0).min()", ".sum(dim=0).min()"),
        ],
        "loses": ["value", "saddle"],
        "says": "You sum over the points of data; each has the mass 1/n.",
    },
]

ACCEPT = {
    "replicator": [
        """def replicator(payoff, omega, kappa):
    return torch.softmax(omega.log() + kappa * payoff, dim=1)
"""
    ],
    "wfr_step": [
        """def wfr_step(f, slope, x, y, z, omega, cost, eta, kappa):
    point = z.clone().requires_grad_()
    home = torch.stack([x, y], 1)[:, None]
    u = (f(point[..., 0]) - point[..., 1]) ** 2 - cost * ((point - home) ** 2).sum(-1)
    (gradient,) = torch.autograd.grad(u.sum(), point)
    u = u.detach()
    growth = u - torch.einsum('ij,ij->i', omega, u)[:, None]
    return z + eta * gradient, omega * (1 + kappa * growth)
"""
    ],
    "nikaido_isoda": [
        """def nikaido_isoda(payoff, omega, alpha):
    n, m, k = payoff.shape
    best = 0.0
    for i in range(n):
        best += max(float(payoff[i, j] @ alpha) for j in range(m)) / n
    least = min(float((omega * payoff[:, :, l]).sum()) / n for l in range(k))
    return best - least
"""
    ],
}
