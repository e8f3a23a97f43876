"""The life with a kernel: ipywidgets that compute every value, in versions 7 and 8 alike.

An ``Image`` widget changes in place, so nothing flickers. It has no alt text in any version of
ipywidgets; the description and the sentence of the state stand beneath it as text.
"""

import html
from collections.abc import Callable, Sequence
from typing import Any

from adversarial_lab.explore.frames import drawn, release
from adversarial_lab.explore.sliders import Slider
from adversarial_lab.figures import PIXELS_PER_INCH, to_png
from adversarial_lab.needs import or_say

with or_say("a figure with sliders, in a notebook, needs"):
    import ipywidgets as widgets


def make_widget(
    draw: Callable[..., Any], sliders: Sequence[Slider], alt: str, play: str | None
) -> widgets.VBox:
    """The figure, its sliders, and its sentence; children in that order."""
    image = widgets.Image(
        format="png", layout=widgets.Layout(max_width="100%", align_self="center")
    )
    width = max(len(slider.label) for slider in sliders)
    controls = {slider.name: control(slider, width) for slider in sliders}
    say = widgets.HTML()

    def update(_: Any = None) -> None:
        values = {name: choice.value for name, choice in controls.items()}
        try:
            fig, sentence = drawn(draw, values, sliders)
            image.value = to_png(fig, dpi=PIXELS_PER_INCH)
            release(fig)
            say.value = described(alt, sentence)
        except Exception as error:  # the front end loses a traceback raised in a callback
            say.value = failed(error)

    for choice in controls.values():
        choice.observe(update, "value")
    update()
    players = [player(controls[play])] if play else []
    return widgets.VBox([image, *controls.values(), *players, say])


def control(slider: Slider, width: int) -> widgets.SelectionSlider:
    """A slider over every value, which computes when it is let go; its label `width` wide."""
    return widgets.SelectionSlider(
        options=list(zip(slider.texts, slider.values, strict=True)),
        index=slider.start,
        description=slider.label,
        continuous_update=False,
        style={"description_width": f"{min(width, 30)}ch"},
        layout=widgets.Layout(width="95%"),
    )


def player(choice: widgets.SelectionSlider) -> widgets.Play:
    """Play, pause and stop for one slider."""
    button = widgets.Play(
        value=choice.index, min=0, max=len(choice.options) - 1, interval=500, description="Play"
    )
    widgets.link((button, "value"), (choice, "index"))
    return button


def described(alt: str, sentence: str) -> str:
    """The state in words; the description is for those who cannot see the figure."""
    return f'<p role="status" aria-label="{html.escape(alt)}">{html.escape(sentence)}</p>'


def failed(error: Exception) -> str:
    """The exception and where it happened, in place of the sentence."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    return (
        f'<p role="alert"><b>{type(error).__name__}</b>: {html.escape(str(error))}'
        f"{' (' + html.escape(notes) + ')' if notes else ''}</p>"
    )
