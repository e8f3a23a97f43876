"""Wrong answers to Section 17.3, the cases each must lose, and what its author is told."""

FLOW = "clean, moved = model(x), model(x_adv.detach())"
DIVERGENCE = "divergence = (log_p.exp() * (log_p - log_q)).sum(dim=1)"

MUTANTS = [
    {
        "name": "boundary_overlaps",
        "question": "risks",
        "swap": [("broken & ~wrong", "broken")],
        "loses": ["parts", "recovered", "several"],
        "says": "Your boundary share counts examples that are wrong at x already.",
    },
    {
        "name": "robust_without_x",
        "question": "risks",
        "swap": [("broken | wrong", "broken")],
        "loses": ["recovered", "several"],
        "says": "Your robust risk forgets x itself, which is a point of the neighbourhood.",
    },
    {
        "name": "changed_prediction",
        "question": "risks",
        "swap": [
            ("broken & ~wrong", "(attacked.argmax(dim=2) != clean.argmax(dim=1)).any(dim=0)"),
        ],
        "loses": ["recovered", "several"],
        "says": "A prediction that changes where x is wrong is no boundary error.",
    },
    {
        "name": "all_points",
        "question": "risks",
        "swap": [(".any(dim=0)", ".all(dim=0)")],
        "loses": ["several"],
        "says": "You ask that all points break an example; one is enough.",
    },
    {
        "name": "last_point",
        "question": "risks",
        "swap": [(".any(dim=0)", "[-1]")],
        "loses": ["several"],
        "says": "Only the last point counts for you.",
    },
    {
        "name": "mean_over_points",
        "question": "risks",
        "swap": [
            ("(attacked.argmax(dim=2) != y).any(dim=0)", "attacked.mean(dim=0).argmax(dim=1) != y"),
        ],
        "loses": ["several"],
        "says": "You average the logits over the points; the worst point decides.",
    },
    {
        "name": "counts",
        "question": "risks",
        "swap": [("event.double().mean()", "event.double().sum()")],
        "loses": ["parts", "recovered", "several"],
        "says": "Those are numbers of examples; divide by n.",
    },
    {
        "name": "reversed",
        "question": "kl",
        "swap": [("log_p.exp() * (log_p - log_q)", "log_q.exp() * (log_q - log_p)")],
        "loses": ["values", "far", "shifted"],
        "says": "That is KL(q || p): the first argument is the one that weighs.",
    },
    {
        "name": "weighed_by_q",
        "question": "kl",
        "swap": [("log_p.exp() *", "log_q.exp() *")],
        "loses": ["values", "far", "shifted"],
        "says": "The weights are those of q; they should be those of p.",
    },
    {
        "name": "mean_over_classes",
        "question": "kl",
        "swap": [(".sum(dim=1)", ".mean(dim=1)")],
        "loses": ["values", "far", "shifted"],
        "says": "You average over the classes: a divergence is a sum.",
    },
    {
        "name": "log_of_softmax",
        "question": "kl",
        "swap": [
            (
                "a.log_softmax(dim=1), b.log_softmax(dim=1)",
                "a.softmax(dim=1).log(), b.softmax(dim=1).log()",
            )
        ],
        "loses": ["far"],
        "says": "The softmax underflows before you take its logarithm: use log_softmax.",
    },
    {
        "name": "padded",
        "question": "kl",
        "swap": [
            (
                "a.log_softmax(dim=1), b.log_softmax(dim=1)",
                "(a.softmax(dim=1) + 1e-12).log(), (b.softmax(dim=1) + 1e-12).log()",
            )
        ],
        "loses": ["far"],
        "says": "A small number inside the logarithm hides the underflow and cuts the divergence.",
    },
    {
        "name": "raw_logits",
        "question": "kl",
        "swap": [("(log_p - log_q)", "(a - b)")],
        "loses": ["values", "far", "shifted"],
        "says": "Logits are log-probabilities only up to a constant, another one in each row.",
    },
    {
        "name": "cross_entropy",
        "question": "kl",
        "swap": [("(log_p - log_q)", "(-log_q)")],
        "loses": ["values", "far", "shifted"],
        "says": "That is the cross-entropy of p and q: the entropy of p is missing.",
    },
    {
        "name": "descends",
        "question": "kl_gradient",
        "swap": [("(q - p)", "(p - q)")],
        "loses": ["apart", "near", "start"],
        "says": "The sign is turned: moving p(x') further from p(x) raises the divergence.",
    },
    {
        "name": "with_jacobian",
        "question": "kl_gradient",
        "swap": [
            ("(q - p) @ weight", "(q * (q - p) - q * (q * (q - p)).sum(1, keepdim=True)) @ weight")
        ],
        "loses": ["apart", "near", "start"],
        "says": "You multiply by the softmax's Jacobian once too often: it cancels against 1/q.",
    },
    {
        "name": "half_square",
        "question": "kl_gradient",
        "swap": [("(q - p) @ weight", "((x_prime - x) @ weight.T) @ weight")],
        "loses": ["apart", "near", "start"],
        "says": "That compares logits; the divergence compares probabilities.",
    },
    {
        "name": "clean_moves",
        "question": "kl_gradient",
        "source": """def kl_gradient(weight, x, x_prime):
    p = (x @ weight.T).softmax(dim=1)
    q = (x_prime @ weight.T).softmax(dim=1)
    gap = (p / q).log()
    return p * gap @ weight - (p * gap).sum(1, keepdim=True) * (p @ weight)
""",
        "loses": ["apart", "near", "start"],
        "says": "That is the gradient with respect to x, through p(x); here p(x) is constant.",
    },
    {
        "name": "no_label",
        "question": "kl_gradient",
        "swap": [("(q - p)", "q")],
        "loses": ["apart", "near", "start"],
        "says": "Your gradient does not vanish at x' = x: p(x) is missing.",
    },
    {
        "name": "hard_label",
        "question": "kl_gradient",
        "swap": [("(q - p)", "(q - torch.nn.functional.one_hot(p.argmax(1), len(weight)))")],
        "loses": ["apart", "near", "start"],
        "says": "You take the predicted class as a hard label; the label is all of p(x).",
    },
    {
        "name": "averaged",
        "question": "kl_gradient",
        "swap": [("@ weight\n", "@ weight / len(x)\n")],
        "loses": ["apart", "near", "start"],
        "says": "You divide by n: each example has its own divergence.",
    },
    {
        "name": "noise_added",
        "question": "kl_gradient",
        "swap": [("(x_prime @", "(torch.where(x_prime == x, x + 0.001, x_prime) @")],
        "loses": ["start"],
        "says": "You move the start off x. The gradient at x is zero; moving is the attack's task.",
    },
    {
        "name": "clean_detached",
        "question": "trades_loss",
        "swap": [("log_p, log_q = clean.", "log_p, log_q = clean.detach().")],
        "loses": ["gradient", "constant"],
        "says": "You hold p(x) constant: in the outer step the weights move it, too.",
    },
    {
        "name": "moved_detached",
        "question": "trades_loss",
        "swap": [("model(x_adv.detach())", "model(x_adv).detach()")],
        "loses": ["gradient", "constant"],
        "says": "You detach the logits at x'; only the point itself is constant.",
    },
    {
        "name": "not_detached",
        "question": "trades_loss",
        "swap": [("x_adv.detach()", "x_adv")],
        "loses": ["constant"],
        "says": "Your gradient flows through x' itself, back into the attack.",
    },
    {
        "name": "mean_over_classes",
        "question": "trades_loss",
        "swap": [(".sum(dim=1)", "")],
        "loses": ["value", "gradient", "constant"],
        "says": "You average over the classes as well, which divides beta by k: use batchmean.",
    },
    {
        "name": "reversed",
        "question": "trades_loss",
        "swap": [
            (
                DIVERGENCE,
                DIVERGENCE.replace("log_p", "o")
                .replace("log_q", "log_p")
                .replace("o.exp", "log_q.exp")
                .replace("(o -", "(log_q -"),
            )
        ],
        "loses": ["value", "gradient", "constant"],
        "says": "That is KL(p(x') || p(x)): the clean prediction stands first.",
    },
    {
        "name": "label_at_the_point",
        "question": "trades_loss",
        "swap": [("cross_entropy(clean, y)", "cross_entropy(moved, y)")],
        "loses": ["value", "natural", "gradient", "constant"],
        "says": "Your cross-entropy is taken at x'; that is adversarial training, not TRADES.",
    },
    {
        "name": "summed",
        "question": "trades_loss",
        "swap": [("divergence.mean()", "divergence.sum()")],
        "loses": ["value", "gradient", "constant"],
        "says": "One term is averaged over the batch, the other summed: beta then grows with n.",
    },
    {
        "name": "one_over_beta",
        "question": "trades_loss",
        "swap": [("+ beta * ", "+ (1 / beta if beta else 0.0) * ")],
        "loses": ["value", "gradient", "constant"],
        "says": "beta stands in front of the divergence: it is 1 / lambda of the paper already.",
    },
    {
        "name": "mixture",
        "question": "trades_loss",
        "swap": [("return torch", "return (1 - beta) * torch")],
        "loses": ["value", "gradient", "constant"],
        "says": "You mix the two terms; the cross-entropy keeps the weight 1.",
    },
    {
        "name": "mean_squares",
        "question": "trades_loss",
        "swap": [(DIVERGENCE, "divergence = (log_p.exp() - log_q.exp()).pow(2).sum(dim=1)")],
        "loses": ["value", "gradient", "constant"],
        "says": "That is a squared distance of probabilities, not the divergence.",
    },
]

ACCEPT = {
    "risks": [
        """def risks(clean, attacked, y):
    everywhere = torch.cat([clean[None], attacked]).argmax(-1) == y
    natural = 1 - everywhere[0].float().mean()
    robust = 1 - everywhere.all(0).float().mean()
    return natural.item(), (robust - natural).item(), robust.item()
"""
    ],
    "kl": [
        """def kl(a, b):
    import torch.nn.functional as F
    return F.kl_div(F.log_softmax(b, -1), F.log_softmax(a, -1), log_target=True,
                    reduction="none").sum(-1)
""",
        """def kl(a, b):
    a, b = a.double(), b.double()
    p = torch.softmax(a, 1)
    return (p * (a - b)).sum(1) - torch.logsumexp(a, 1) + torch.logsumexp(b, 1)
""",
    ],
    "kl_gradient": [
        """def kl_gradient(weight, x, x_prime):
    z = x_prime.detach().clone().requires_grad_()
    p = torch.softmax(x @ weight.T, 1)
    (-(p * torch.log_softmax(z @ weight.T, 1)).sum()).backward()
    return z.grad
"""
    ],
    "trades_loss": [
        """def trades_loss(model, x, y, x_adv, beta):
    import torch.nn.functional as F
    clean, moved = model(x), model(x_adv.detach())
    kl = F.kl_div(F.log_softmax(moved, 1), F.softmax(clean, 1), reduction="batchmean")
    return F.cross_entropy(clean, y) + beta * kl
"""
    ],
}
