"""A reader without a network: every slider of every page, by keyboard; formulas; access."""

import json
from importlib.resources import files

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tools.book import HTML, ROOT, pages

PAGES = pages()
AXE = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
# The picture as its bytes, once the browser has decoded it; or why it cannot be shown.
STATE = """
const [figure, slider, done] = arguments;
const image = figure.querySelector("img");
const hex = (sum) => Array.from(new Uint8Array(sum), (v) => v.toString(16)).join(" ");
const said = () => [
  figure.querySelector("[aria-live=polite]").textContent,
  slider.getAttribute("aria-valuetext"),
  image.alt,
];
image.decode()
  .then(() => fetch(image.src))
  .then((reply) => reply.arrayBuffer())
  .then((bytes) => crypto.subtle.digest("SHA-256", bytes))
  .then((sum) => done([hex(sum), ...said()]), (error) => done([`not shown: ${error}`, ...said()]));
"""
DRAWN = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
# Colours still fading into the other theme are not judged.
AUDIT = """
const [alike, options, done] = arguments;
for (const part of alike ? document.querySelectorAll(alike) : []) part.replaceWith("as elsewhere");
Promise.all(document.getAnimations().map((animation) => animation.finished))
  .then(() => axe.run({resultTypes: ['violations'], ...options}))
  .then(done);
"""
# Thousands of formulas, or of members of a class, are alike: one page keeps them all.
ALIKE, KEEPS = "mjx-container, dl.py dl.py, dl.py ~ dl.py", "book/notation"
# "region": the theme keeps its logo outside every landmark. In the dark only colours differ.
AUDITED = {
    "light": {"rules": {"region": {"enabled": False}}},
    "dark": {"runOnly": ["color-contrast"]},
}
LUMINANCE = """
const [r, g, b] = getComputedStyle(arguments[0]).backgroundColor.match(/[0-9.]+/g).map(Number);
return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
"""


def with_sliders():
    source = {page: (ROOT / page).with_suffix(".md").read_text(encoding="utf-8") for page in PAGES}
    return [page for page, text in source.items() if "explore(" in text]


def visit(browser, page):
    browser.get((HTML / page).with_suffix(".html").as_uri())


def figures(browser):
    return browser.find_elements(By.CSS_SELECTOR, "figure.advx")


def ranges(figure):
    return figure.find_elements(By.CSS_SELECTOR, "input[type=range]")


def bring_up(browser, figure):
    """Scroll to a figure and wait until it has unpacked its frames.

    Formulas that are typeset meanwhile can push it out of sight, so it is scrolled to again.
    """

    def unpacked(_):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
        return all(r.is_enabled() for r in ranges(figure))

    WebDriverWait(browser, 60).until(unpacked)


def state(browser, figure, slider):
    """What a reader sees and hears: the picture, the sentence, the slider's value."""
    picture, sentence, value, alt = browser.execute_async_script(STATE, figure, slider)
    assert not picture.startswith("not shown"), picture
    assert sentence in alt
    return picture, sentence, value


def sweep(browser, figure, slider):
    """All states of one slider, from Home to the end, by keyboard."""
    slider.send_keys(Keys.HOME)
    states = [state(browser, figure, slider)]
    for _ in range(int(slider.get_attribute("max"))):
        slider.send_keys(Keys.ARROW_RIGHT)
        states.append(state(browser, figure, slider))
    slider.send_keys(Keys.END)
    assert state(browser, figure, slider) == states[-1]
    return states


@pytest.mark.parametrize("page", with_sliders())
def test_every_slider_moves_its_picture_and_its_sentence(browser, complaints, page):
    visit(browser, page)
    assert figures(browser)
    for figure in figures(browser):
        bring_up(browser, figure)
        for slider in ranges(figure):
            start = int(slider.get_attribute("value"))
            states = sweep(browser, figure, slider)
            pictures, sentences, values = (set(column) for column in zip(*states, strict=True))
            where = f"{page}: {figure.accessible_name!r}, slider {slider.accessible_name!r}"
            assert len(values) == len(states), where
            assert len(pictures) > 1, f"{where} changes no picture"
            assert len(sentences) > 1, f"{where} changes no sentence"
            slider.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * start)
    assert complaints() == []


def test_what_the_window_shows_follows_the_slider(browser):
    """The other tests compare pictures as files; here the pixels of the window are asked."""
    visit(browser, "book/index")
    figure = figures(browser)[0]
    bring_up(browser, figure)
    image, slider = figure.find_element(By.CSS_SELECTOR, "img"), ranges(figure)[0]
    seen = []
    for key in (Keys.HOME, Keys.END, Keys.HOME):
        slider.send_keys(key)
        state(browser, figure, slider)
        browser.execute_async_script(DRAWN)
        seen.append(image.screenshot_as_png)
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize("page", with_sliders())
def test_play_steps_through_its_slider(browser, page):
    visit(browser, page)
    for figure in figures(browser):
        for button in figure.find_elements(By.CSS_SELECTOR, ".advx-play"):
            bring_up(browser, figure)
            slider = ranges(figure)[int(button.get_attribute("data-slider"))]
            start = slider.get_attribute("value")
            button.send_keys(Keys.ENTER)
            WebDriverWait(browser, 5).until(
                lambda _, slider=slider, start=start: slider.get_attribute("value") != start
            )
            button.send_keys(Keys.ENTER)
            WebDriverWait(browser, 5).until(lambda _, button=button: button.text.startswith("Play"))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_quiet_and_fetches_nothing(browser, complaints, page):
    visit(browser, page)
    browser.execute_async_script(
        "window.MathJax?.startup?.promise.then(arguments[0]) ?? arguments[0]()"
    )
    written = browser.find_elements(By.CSS_SELECTOR, ".math")
    rendered = browser.find_elements(By.CSS_SELECTOR, ".math mjx-container")
    assert len(rendered) >= len(written)
    assert not browser.find_elements(By.CSS_SELECTOR, "mjx-merror")
    assert complaints() == []


@pytest.mark.parametrize(
    ("page", "theme"),
    [*((page, "light") for page in PAGES), *((page, "dark") for page in with_sliders())],
)
def test_a_page_has_no_accessibility_violation(browser, page, theme):
    emulate(browser, features={"prefers-color-scheme": theme})
    visit(browser, page)
    browser.execute_script(AXE)
    alike = "" if page == KEEPS else ALIKE
    report = browser.execute_async_script(AUDIT, alike, AUDITED[theme])
    found = [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in report["violations"]]
    assert not found, json.dumps(found, indent=1)


def emulate(browser, media="", features=None):
    pairs = [{"name": name, "value": value} for name, value in (features or {}).items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": pairs})


@pytest.mark.parametrize("page", with_sliders())
def test_dark_mode_darkens_the_figures(browser, page):
    emulate(browser, features={"prefers-color-scheme": "dark"})
    visit(browser, page)
    assert all(browser.execute_script(LUMINANCE, figure) < 0.25 for figure in figures(browser))


@pytest.mark.parametrize("page", with_sliders())
def test_print_shows_the_figures_without_controls(browser, page):
    visit(browser, page)
    emulate(browser, media="print")
    for figure in figures(browser):
        assert figure.find_element(By.CSS_SELECTOR, "img").is_displayed()
        assert not any(slider.is_displayed() for slider in ranges(figure))
        assert browser.execute_script(LUMINANCE, figure) > 0.9


@pytest.mark.parametrize("page", with_sliders())
def test_without_javascript_the_opening_frames_are_there(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    visit(browser, page)
    for figure in figures(browser):
        image = figure.find_element(By.CSS_SELECTOR, "img")
        assert int(image.get_property("naturalWidth")) > 100
        assert not any(slider.is_enabled() for slider in ranges(figure))
        assert figure.find_element(By.CSS_SELECTOR, "[aria-live=polite]").text
