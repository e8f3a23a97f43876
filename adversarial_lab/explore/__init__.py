"""Sliders that live twice: ``explore(draw, alt="...", eps=(0.0, 1.0, 0.01))``.

With a kernel the sliders are ipywidgets and every value is computed. While the book is built,
which sets ``ADVERSARIAL_LAB_STATIC=1``, the same ``draw`` runs on a grid and the figure becomes
a piece of HTML that works from ``file://``, without network, kernel or, for its opening frame,
JavaScript.
"""

import os
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from adversarial_lab.explore.frames import make_frames
from adversarial_lab.explore.page import make_page
from adversarial_lab.explore.sliders import check_names, make_sliders
from adversarial_lab.figures import check_alt

STATIC = "ADVERSARIAL_LAB_STATIC"

__all__ = ["STATIC", "explore"]


def explore(
    draw: Callable[..., Any],
    *,
    alt: str,
    static: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    play: str | None = None,
    max_states: int = 200,
    max_kb: int = 600,
    **sliders: Any,
) -> Any:
    """Sliders over ``draw(**values)``, which returns a Figure or (Figure, sentence).

    A slider is a range ``(lo, hi, step[, start])``, both ends included, or a list of options;
    its name is a parameter of `draw`. The sentence says what the state shows, for those who
    listen and for those who look; without one the values are stated.

    `alt` describes the figure. `labels` names sliders for the reader. `static` says which values
    the built page has, as a number of values or a list of them, ``static=dict(eps=11)``; at most
    `max_states` combinations, and a warning above `max_kb` kilobytes. `play` is a slider that a
    button steps through.

    Returns an ipywidgets box with a kernel, and a ``Page`` where the book is built.
    """
    check_alt("explore", alt)
    made = make_sliders(draw, sliders, static or {}, labels or {})
    check_names("play", {play: None} if play else {}, sliders)
    if os.environ.get(STATIC) != "1":
        from adversarial_lab.explore.live import make_widget

        return make_widget(draw, made, alt, play)
    count = prod(len(slider.grid) for slider in made)
    if count > max_states:
        sizes = ", ".join(f"{slider.name}: {len(slider.grid)}" for slider in made)
        raise ValueError(
            f"explore: the page would have {count} states ({sizes}), more than "
            f"max_states={max_states}; give fewer values with static="
        )
    return make_page(make_frames(draw, made), made, alt, play, max_kb)
