"""explore(): what a reader gets with a kernel and without one is what `draw` drew."""

import base64
import gzip
import html
import json
import re
from html.parser import HTMLParser

import ipywidgets as widgets
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from adversarial_lab.explore import STATIC, explore
from adversarial_lab.explore.sliders import make_slider
from adversarial_lab.figures import PIXELS_PER_INCH, to_png, to_svg

ALT = "A line whose slope is the budget."


def line(eps, norm="linf"):
    """A line through the origin, and a sentence about it."""
    fig = Figure(figsize=(1, 1))
    fig.add_artist(Line2D([0, 1], [0, eps], dashes=(4, 1 + len(norm))))
    return fig, f"Slope {eps:g} in {norm}."


def silent(eps):
    """The figure alone."""
    return line(eps)[0]


def heat(k):
    """Pixels, so the page cannot use SVG."""
    fig = Figure(figsize=(1, 1))
    fig.figimage(np.outer(np.arange(80), np.arange(80)) ** k)
    return fig


@pytest.fixture
def static(monkeypatch):
    """As while the book is built."""
    monkeypatch.setenv(STATIC, "1")


@pytest.fixture
def live(monkeypatch):
    """As in a notebook."""
    monkeypatch.delenv(STATIC, raising=False)


class Elements(HTMLParser):
    """All start tags of a page with their attributes, and the text inside each script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.stack, self.script = [], [], {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "input"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, f"<{tag}> closes something else"

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "script":
            self.script[self.tags[-1][1].get("class", "code")] = data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def unpacked(page):
    """Metadata and the frames of every state, decoded as the script decodes them."""
    script = Elements(page.html).script
    meta = json.loads(script["advx-meta"])
    packed = json.loads(gzip.decompress(base64.b64decode(script["advx-frames"])))
    if meta["type"] == "image/svg+xml":
        frames = ["\n".join(packed["lines"][i] for i in frame) for frame in packed["frames"]]
    else:
        frames = [base64.b64decode(frame) for frame in packed["frames"]]
    return meta, [frames[i] for i in meta["frame"]]


# sliders


def test_a_range_has_both_ends_and_no_dust():
    slider = make_slider("eps", (0.0, 1.0, 0.1, 0.3))
    assert slider.values == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert slider.values[slider.start] == 0.3
    assert make_slider("b", (-0.3, 0.3, 0.1)).texts[3] == "0", "no -0"
    assert make_slider("n", (1, 7, 2)).texts == ("1", "3", "5", "7")
    assert make_slider("n", (0, 1, 0.3)).values[-1] == 0.9, (
        "a step that does not divide stops short"
    )


@pytest.mark.parametrize(
    ("coarse", "expected"),
    [
        (None, list(range(11))),
        (99, list(range(11))),
        (3, [0, 3, 5, 10]),
        (1, [0, 3]),
        ([4.4, 10], [3, 4, 10]),
    ],
)
def test_the_page_has_a_grid_that_includes_the_start(coarse, expected):
    slider = make_slider("eps", (0, 10, 1, 3), coarse)
    assert [slider.values[i] for i in slider.grid] == expected
    assert expected[slider.grid_start] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(alt="  ", eps=[1]), r"alt='  ' is empty"),
        (dict(alt=ALT), r"no slider"),
        (dict(alt=ALT, eps=(1.0, 0.0, 0.1)), r"eps=\(1\.0, 0\.0, 0\.1\) has lo=1\.0 > hi=0\.0"),
        (dict(alt=ALT, eps=(0.0, 1.0, 0.0)), r"eps=.* has step=0\.0; it must be positive"),
        (dict(alt=ALT, eps=(0.0, 1.0, -0.1)), r"step=-0\.1"),
        (dict(alt=ALT, eps=(0.0, 1.0, 0.1, 2.0)), r"start=2\.0 outside \[0\.0, 1\.0\]"),
        (dict(alt=ALT, eps=(0.0, 1.0)), r"eps=\(0\.0, 1\.0\) is no range"),
        (dict(alt=ALT, eps=(0.0, float("inf"), 1.0)), r"finite numbers"),
        (dict(alt=ALT, eps=("linf", "l2", "l1")), r"a list for a choice"),
        (dict(alt=ALT, eps=0.3), r"eps=0\.3 is no slider"),
        (dict(alt=ALT, eps=[]), r"eps=\[\] is empty"),
        (dict(alt=ALT, eps=[0.3, 0.3]), r"read the same"),
        (dict(alt=ALT, eps=[1], static=dict(epsilon=3)), r"static names 'epsilon'.*\['eps'\]"),
        (dict(alt=ALT, eps=[1], labels=dict(e="e")), r"labels names 'e'.*\['eps'\]"),
        (dict(alt=ALT, eps=[1], play="norm"), r"play names 'norm'.*\['eps'\]"),
        (dict(alt=ALT, eps=[1], static=dict(eps=0)), r"static\['eps'\]=0; give a positive number"),
        (dict(alt=ALT, eps=[1], norm=["l2"], static=dict(norm=["l7"])), r"'l7'; choices: \['l2'\]"),
        (dict(alt=ALT, eps=[1], epsilon=[2]), r"no parameter for the slider 'epsilon'.*'eps'"),
        (dict(alt=ALT, norm=["l2"]), r"draw needs 'eps'"),
    ],
)
@pytest.mark.parametrize("life", ["static", "live"])
def test_a_bad_specification_is_an_error_in_both_lives(life, arguments, message, request):
    request.getfixturevalue(life)
    with pytest.raises((ValueError, TypeError), match=message):
        explore(line, **arguments)


def test_too_many_states_name_the_sliders(static):
    with pytest.raises(ValueError, match=r"303 states \(eps: 101, norm: 3\).*max_states=200"):
        explore(line, alt=ALT, eps=(0.0, 1.0, 0.01), norm=["linf", "l2", "l1"])


# without a kernel


def test_every_state_of_the_page_is_what_draw_drew(static):
    page = explore(line, alt=ALT, eps=(0.0, 1.0, 0.25, 0.5), norm=["linf", "l2"])
    meta, frames = unpacked(page)
    assert page.states == len(frames) == 10
    assert meta["values"] == [["0", "0.25", "0.5", "0.75", "1"], ["linf", "l2"]]
    for k, (eps, norm) in enumerate(
        (e, n) for e in (0, 0.25, 0.5, 0.75, 1.0) for n in ("linf", "l2")
    ):
        fig, sentence = line(eps, norm)
        assert frames[k] == to_svg(fig)
        assert meta["sentence"][k] == sentence


def test_the_page_opens_at_the_start_without_javascript(static):
    page = explore(line, alt=ALT, eps=(0.0, 1.0, 0.25, 0.5), labels=dict(eps="ε < 1"))
    elements = Elements(page.html)
    (image,) = elements.all("img")
    assert image["alt"] == f"{ALT} Slope 0.5 in linf."
    source = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode()
    assert source == to_svg(line(0.5)[0])
    (slider,) = elements.all("input")
    assert slider.items() >= dict(type="range", min="0", max="4", value="2").items()
    assert slider["aria-valuetext"] == "0.5" and "disabled" in slider
    assert "<span>ε &lt; 1</span>" in page.html
    assert "noscript" in dict(elements.tags)
    (figure_tag,) = elements.all("figure")
    assert figure_tag == {"class": "advx", "role": "group", "aria-label": ALT}
    (say,) = [attrs for attrs in elements.all("p") if attrs.get("class") == "advx-say"]
    assert say["aria-live"] == "polite"
    assert ">Slope 0.5 in linf.</p>" in page.html


def test_the_page_opens_at_the_start_of_every_slider(static):
    page = explore(line, norm=["linf", "l2"], alt=ALT, eps=(0.0, 1.0, 0.25, 0.5))
    assert page.text == f"{ALT} Slope 0.5 in linf."
    page = explore(line, eps=(0.0, 1.0, 0.25, 0.5), alt=ALT, norm=["linf", "l2"])
    assert page.text == f"{ALT} Slope 0.5 in linf."
    assert to_svg(line(0.5)[0]) == base64.b64decode(
        Elements(page.html).all("img")[0]["src"].removeprefix("data:image/svg+xml;base64,")
    ).decode("utf-8")


def test_the_page_asks_the_network_for_nothing(static):
    page = explore(line, alt=ALT, eps=(0.0, 1.0, 0.5), play="eps")
    elements = Elements(page.html)
    assert not [a for _, a in elements.tags if "href" in a]
    assert all(a["src"].startswith("data:") for _, a in elements.tags if "src" in a)
    assert not re.search(r"(fetch|import|url)\(|https?:", page.html)


def test_words_from_authors_cannot_break_the_page(static):
    nasty = 'a "quoted" </script><b>&amp;'

    def draw(option):
        return silent(1), nasty

    page = explore(draw, alt=nasty, option=[nasty, "b"], labels=dict(option=nasty), play="option")
    elements = Elements(page.html)
    assert not elements.stack and "b" not in dict(elements.tags)
    assert unpacked(page)[0]["sentence"] == [nasty, nasty]
    assert unpacked(page)[0]["values"] == [[nasty, "b"]]
    assert elements.all("figure")[0]["aria-label"] == nasty


def test_the_same_figure_gives_the_same_bytes(static):
    pages = [explore(line, alt=ALT, eps=(0.0, 1.0, 0.5)) for _ in range(2)]
    assert pages[0] == pages[1]
    assert explore(heat, alt=ALT, k=[1, 2]) == explore(heat, alt=ALT, k=[1, 2])


def test_pixels_become_png_with_few_colours(static):
    page = explore(heat, alt=ALT, k=[1, 2])
    meta, frames = unpacked(page)
    assert meta["type"] == "image/png"
    assert frames == [to_png(heat(k), colours=64) for k in (1, 2)]
    assert "advx-tone" in Elements(page.html).all("img")[0]["class"]


def test_equal_frames_are_sent_once(static):
    page = explore(lambda eps: line(0.5 * (eps > 6)), alt=ALT, eps=(0, 9, 1))
    meta, frames = unpacked(page)
    assert meta["frame"] == [0] * 7 + [1] * 3 and len(set(frames)) == 2
    packed = gzip.decompress(base64.b64decode(Elements(page.html).script["advx-frames"]))
    assert len(json.loads(packed)["frames"]) == 2


def test_many_states_of_a_plot_stay_small(static):
    x, y = np.random.default_rng(0).random((2, 300))

    def draw(shift):
        fig = Figure(figsize=(3, 3))
        fig.add_artist(Line2D(x, y, marker="o", linestyle=""))
        fig.add_artist(Line2D(x[:50] + shift, y[:50], marker="x", linestyle=""))
        return fig

    page = explore(draw, alt=ALT, shift=(0.0, 1.0, 0.05))
    together = sum(len(frame) for frame in unpacked(page)[1])
    assert page.states == 21 and len(page.html) < together / 5


def test_a_heavy_page_warns_with_its_size(static):
    with pytest.warns(UserWarning, match=r"adds \d+ KB to its page, more than max_kb=1"):
        explore(line, alt=ALT, eps=[0.5], max_kb=1)


def test_without_a_sentence_the_values_are_stated(static):
    page = explore(silent, alt=ALT, eps=[0.25, 0.5], labels=dict(eps="budget"))
    assert unpacked(page)[0]["sentence"] == ["budget = 0.25.", "budget = 0.5."]


def test_the_output_has_a_fallback_for_every_front_end(static):
    bundle = explore(line, alt=ALT, eps=[0.5])._repr_mimebundle_()
    assert bundle.keys() == {"text/html", "image/png", "text/plain"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/plain"] == f"{ALT} Slope 0.5 in linf."


def test_play_is_a_labelled_button_for_one_slider(static):
    page = explore(line, alt=ALT, eps=[0.5, 1], norm=["l2"], labels=dict(norm="N"), play="norm")
    (button,) = Elements(page.html).all("button")
    assert button["data-slider"] == "1" and button["type"] == "button"
    assert ">Play N</button>" in page.html
    assert "<button" not in explore(line, alt=ALT, eps=[0.5]).html


def test_an_error_in_draw_says_at_which_values(static):
    def draw(eps, norm):
        return 1 / (eps - 0.5)

    with pytest.raises(ZeroDivisionError) as caught:
        explore(draw, alt=ALT, eps=[0.5], norm=["l2"])
    assert caught.value.__notes__ == ["while drawing eps=0.5, norm='l2'"]


@pytest.mark.parametrize("result", [None, "text", (Figure(), 3), (Figure(),)])
def test_draw_must_return_a_figure(static, result):
    with pytest.raises(TypeError, match="draw returned .*; it must return a matplotlib Figure"):
        explore(lambda eps: result, alt=ALT, eps=[0.5])


@pytest.mark.parametrize("life", ["static", "live"])
def test_figures_of_pyplot_are_closed(life, request):
    request.getfixturevalue(life)
    pyplot = pytest.importorskip("matplotlib.pyplot")

    def draw(eps):
        return pyplot.figure(figsize=(1, 1))

    explore(draw, alt=ALT, eps=[1, 2])
    assert pyplot.get_fignums() == []


# with a kernel


def parts(box):
    """Image, sliders by name of the label, and the sentence."""
    image, *controls, say = box.children
    return image, {control.description: control for control in controls}, say


def test_live_sliders_compute_every_value(live):
    box = explore(line, alt=ALT, eps=(0.0, 1.0, 0.01, 0.5), norm=["linf", "l2"], static=dict(eps=3))
    assert isinstance(box, widgets.VBox)
    image, sliders, say = parts(box)
    assert len(sliders["eps"].options) == 101
    assert image.value == to_png(line(0.5)[0], dpi=PIXELS_PER_INCH)
    sliders["eps"].value = 0.37
    assert image.value == to_png(line(0.37)[0], dpi=PIXELS_PER_INCH)
    assert "Slope 0.37 in linf." in say.value
    sliders["norm"].value = "l2"
    assert "Slope 0.37 in l2." in say.value and html.escape(ALT) in say.value


def test_live_sliders_compute_when_let_go(live):
    _, sliders, _ = parts(explore(line, alt=ALT, eps=[0.5, 1]))
    assert sliders["eps"].continuous_update is False


def test_a_live_error_is_shown_and_survived(live):
    def draw(eps):
        if eps == 2:
            raise ValueError("eps <must> not be 2")
        return line(eps)

    image, sliders, say = parts(explore(draw, alt=ALT, eps=[1, 2, 3]))
    before = image.value
    sliders["eps"].value = 2
    assert "<b>ValueError</b>: eps &lt;must&gt; not be 2 (while drawing eps=2)" in say.value
    assert 'role="alert"' in say.value and image.value == before
    sliders["eps"].value = 3
    assert "Slope 3" in say.value and image.value != before


def test_live_play_moves_its_slider(live):
    box = explore(line, alt=ALT, eps=[0.1, 0.2, 0.3], labels=dict(eps="ε"), play="eps")
    (player,) = [child for child in box.children if isinstance(child, widgets.Play)]
    assert player.max == 2
    player.value = 2
    assert "Slope 0.3" in box.children[-1].value


def test_a_kernel_that_is_told_so_gives_the_static_page(static):
    assert "<figure" in explore(line, alt=ALT, eps=[0.5])._repr_mimebundle_()["text/html"]
