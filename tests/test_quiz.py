"""The questions are whole and right, and their HTML says for every choice what is the matter."""

from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from scipy.stats import norm

from adversarial_lab.cka import linear_cka
from adversarial_lab.gaussian_risk import LineClassifier, TwoGaussians, optimal_risk
from adversarial_lab.multimarginal import induced_cost, play, transport
from adversarial_lab.quiz import quiz, stems
from adversarial_lab.transport import Conflicts, optimal_plan
from tools.book import ROOT

STEMS = pytest.mark.parametrize("stem", stems())


class Form(HTMLParser):
    """Tags with their attributes and the text inside, in the order of the page."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])

    def handle_data(self, data):
        self.found[-1][2] += data

    def all(self, tag):
        return [row for row in self.found if row[0] == tag]


@STEMS
def test_every_choice_has_feedback_and_one_is_right(stem):
    questions = quiz(stem).questions
    assert 2 <= len(questions) <= 3
    for question in questions:
        assert set(question) == {"question", "type", "answers"}
        assert question["type"] == "multiple_choice"
        assert 3 <= len(question["answers"]) <= 4  # the style sheet knows four
        assert sum(answer["correct"] for answer in question["answers"]) == 1
        for answer in question["answers"]:
            assert set(answer) == {"answer", "correct", "feedback"}
            assert answer["answer"].strip() and answer["feedback"].strip()
        texts = [answer["answer"] for answer in question["answers"]]
        assert len(set(texts)) == len(texts)


def test_the_right_choice_does_not_stand_in_one_place():
    places = [
        [answer["correct"] for answer in question["answers"]].index(True)
        for stem in stems()
        for question in quiz(stem).questions
    ]
    assert {places.count(k) > len(places) / 6 for k in range(3)} == {True}


@STEMS
def test_its_page_shows_it_once(stem):
    text = (ROOT / f"book/{stem}.md").read_text(encoding="utf-8")
    assert text.count(f'quiz("{stem}")') == 1


@STEMS
def test_the_form_has_groups_labels_and_no_script(stem):
    form, questions = Form(quiz(stem).html()), quiz(stem).questions
    assert not form.all("script") and "http" not in quiz(stem).html() and "url(" not in str(form)
    assert len(form.all("fieldset")) == len(form.all("legend")) == len(questions)
    inputs = [attributes for _, attributes, _ in form.all("input")]
    assert len({(given["name"], given["value"]) for given in inputs}) == len(inputs)
    assert all(given["type"] == "radio" and "checked" not in given for given in inputs)
    assert len(form.all("label")) == len(form.all("p")) == len(inputs)
    roles = [attributes["role"] for _, attributes, _ in form.all("div")]
    assert roles == ["group"] + ["status"] * len(questions)


def test_text_is_escaped_and_the_plain_form_keeps_the_answers_to_itself():
    shown = quiz("pgd")._repr_mimebundle_()
    assert "&lt;" not in shown["text/plain"]
    assert "( ) Three quarters." in shown["text/plain"]
    assert "Travel 2ε" in shown["text/html"] and "Travel 2ε" not in shown["text/plain"]
    risky = quiz("pgd").questions[0] | {"question": "a < b & <script>"}
    html = type(quiz("pgd"))("pgd", (risky,)).html()
    assert "a &lt; b &amp; &lt;script&gt;" in html and "<script" not in html


def test_an_unknown_page_is_refused():
    with pytest.raises(ValueError, match="stem must be one of.*'pgd'.*got 'nowhere'"):
        quiz("nowhere")


# --- what the questions claim, computed ----------------------------------------------------------


def right(stem, k):
    return next(a["answer"] for a in quiz(stem).questions[k]["answers"] if a["correct"])


def test_travel_eps_reaches_three_quarters():
    u = np.linspace(-1, 1, 200_001)
    assert np.minimum(u + 1, 1).mean() == pytest.approx(0.75, abs=1e-4)
    assert right("pgd", 0) == "Three quarters."


def test_a_factor_on_the_logits_changes_no_decision():
    z = torch.randn(100, 10) + 5 * torch.eye(10).repeat(10, 1)
    assert torch.equal((1000 * z).argmax(1), z.argmax(1))
    assert right("masking", 1) == "Exactly as before."


def test_the_gradient_of_the_divergence_vanishes_at_x():
    z = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    p, q = z.detach().softmax(1), z.log_softmax(1)
    (p * (p.log() - q)).sum().backward()
    assert z.grad.abs().max() < 1e-14
    assert right("trades", 0) == "Zero."


def test_wide_layers_look_alike(rng):
    x, y = (torch.randn(50, 5000, generator=rng, dtype=torch.float64) for _ in range(2))
    assert linear_cka(x, y).item() == pytest.approx(0.99, abs=0.005)
    assert right("cka", 2) == "0.99."


def test_the_gaussian_numbers():
    model = TwoGaussians(mu=(-1.0, 1.0))
    assert optimal_risk(model, 1.5) == 0.5
    assert LineClassifier((0.0,)).risk(model, 1.5) == pytest.approx(norm.cdf(0.5))
    assert (round(norm.cdf(0.5), 2), round(norm.cdf(-1), 2)) == (0.69, 0.16)
    assert right("gaussian_risk", 0) == "0.5."


def test_thirty_pairs_of_two_hundred_points():
    i = np.arange(30, dtype=np.int32)
    found = Conflicts(i, i + np.int32(100), np.ones(30), 200, 2.0, "l2")
    plan = optimal_plan(found, torch.arange(200) // 100)
    assert plan.risk == pytest.approx(0.15)
    assert right("transport", 1) == "0.15."


def test_the_constant_where_nothing_meets():
    cost = np.where(np.eye(3) > 0, 0.0, np.inf)
    w, y = np.array([0.2, 0.3, 0.5]), np.arange(3)
    assert play(cost, y, w).value == pytest.approx(0)
    assert transport(induced_cost(cost, y), w).value == pytest.approx(0.5)
    assert right("multimarginal", 2) == "2."


def test_three_pairs_cost_a_half_and_a_hard_classifier_two_thirds():
    pairs = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    cost = np.where(pairs.T > 0, 0.0, np.inf)
    assert play(cost, np.arange(3), np.full(3, 1 / 3)).value == pytest.approx(0.5)
    assert right("multimarginal", 0).startswith("1/2")


def test_the_price_of_a_label():
    label = np.linspace(-5, 5, 100_001)  # f = 1, y = 0
    gain = (1 - label) ** 2 - 2 * label**2
    assert gain.max() == pytest.approx(2) and label[gain.argmax()] == pytest.approx(-1)
    assert right("meanfield", 0) == "2."


def test_an_electron_in_every_third():
    others = sorted((0.1 + i / 3) % 1 for i in (1, 2))
    assert right("barycenter", 2) == f"At {others[0]:.2f} and {others[1]:.2f}."


def test_the_barycenter_of_two_shifted_gaussians():
    levels = (np.arange(100_000) + 0.5) / 100_000
    meeting = (norm.ppf(levels, -3) + norm.ppf(levels, 3)) / 2
    mixture = np.concatenate([norm.ppf(levels, -3), norm.ppf(levels, 3)])
    assert (meeting.mean(), meeting.var()) == pytest.approx((0, 1), abs=1e-3)
    assert mixture.var() == pytest.approx(10, abs=1e-3)
    assert right("barycenter", 0) == "N(0, 1)."


def test_the_margin_of_a_linear_classifier_falls_by_the_l1_norm(rng):
    w, x = torch.randn(2, 6, generator=rng)
    corners = x + 0.3 * torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 6)
    assert torch.isclose((corners @ w).min(), x @ w - 0.3 * w.abs().sum())
    assert "‖w‖₁, inside the loss" in right("robust_objectives", 2)
