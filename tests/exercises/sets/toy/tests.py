"""Cases of a toy set, quick to grade."""

QUESTIONS = {
    "double": {
        "title": "Double", "section": "0", "minutes": 1, "difficulty": 1, "hints": ["Add v to v."],
    },
    "total": {
        "title": "Total", "section": "0", "minutes": 1, "difficulty": 1, "hints": ["Add it all."],
    },
}  # fmt: skip
CASES = [
    {"id": "double.seen", "points": 2, "public": True, "hint": "Twice."},
    {"id": "double.unseen", "points": 2, "public": False, "hint": "Twice, CANARY-HIDDEN aside."},
    {"id": "total.seen", "points": 1, "public": True, "hint": "A sum."},
    {"id": "total.unseen", "points": 1, "public": False, "hint": "A sum."},
]


def probe_double_seen(double, rng):
    return {"v": double(rng.random_sample(4) + 1)}


def probe_double_unseen(double, rng):
    canary = "CANARY-PROBE"
    return {"v": double(rng.random_sample(5) + len(canary))}


def probe_total_seen(total, rng):
    return {"v": total(rng.random_sample(4) + 1)}


def probe_total_unseen(total, rng):
    return {"v": total(rng.random_sample(6) + 2)}


def check_total_unseen(out, ref):
    canary = "CANARY-CHECK"
    assert abs(out["v"] - ref["v"]) < 1e-9, canary
