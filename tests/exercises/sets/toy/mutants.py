"""Wrong answers to the toy set."""

MUTANTS = [
    {
        "name": "triple",
        "question": "double",
        "swap": [("2 * v", "3 * v")],
        "loses": ["seen", "unseen"],
        "says": "That is three times v.",
    },
    {
        "name": "mean",
        "question": "total",
        "swap": [("v.sum()", "v.mean()")],
        "loses": ["seen", "unseen"],
        "says": "That is the mean.",
    },
]
ACCEPT = {"double": ["def double(v):\n    return v + v\n"]}
