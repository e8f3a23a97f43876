"""The kernel-less life: one self-contained piece of HTML, with every frame inside.

The opening frame is a plain ``<img>`` with alt text, so the page reads without JavaScript, in
print and in a feed. The script (``_static/explore.js``) unpacks the other frames when the figure
comes near the window, and then enables the sliders.
"""

import html
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adversarial_lab.explore.frames import Frames
from adversarial_lab.explore.sliders import Slider
from adversarial_lab.figures import base64_text, static_text


@dataclass(frozen=True)
class Page:
    """A cell's output: HTML for a page, PNG and text for what cannot show HTML."""

    html: str
    png: str
    text: str
    states: int

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "image/png": self.png, "text/plain": self.text}


def make_page(
    frames: Frames, sliders: Sequence[Slider], alt: str, play: str | None, max_kb: int
) -> Page:
    """The figure with its frames; warns where it is heavier than `max_kb` kilobytes."""
    sentence = frames.sentences[frames.start]
    page = fragment(frames, sliders, alt, play)
    kilobytes = len(page) / 1000
    if kilobytes > max_kb:
        warnings.warn(
            f"explore: this figure adds {kilobytes:.0f} KB to its page, more than "
            f"max_kb={max_kb}; draw less, or give fewer values with static=",
            stacklevel=3,
        )
    return Page(page, base64_text(frames.fallback), f"{alt} {sentence}", len(frames.index))


def fragment(frames: Frames, sliders: Sequence[Slider], alt: str, play: str | None) -> str:
    """The ``<figure>`` element, script and styles included."""
    sentence = frames.sentences[frames.start]
    meta = metadata(frames, sliders, alt)
    width = max(len(slider.texts[i]) for slider in sliders for i in slider.grid)
    parts = (
        f'<figure class="advx" role="group" aria-label="{html.escape(alt)}">',
        f"<style>{static_text('figure.css')}\n{static_text('explore.css')}</style>",
        frames.first.img(f"{alt} {sentence}"),
        *(slider_row(slider, width) for slider in sliders),
        play_button(sliders, play) if play else "",
        f'<p class="advx-say" aria-live="polite">{html.escape(sentence)}</p>',
        "<noscript><p>The sliders need JavaScript; "
        "the figure shows its starting values.</p></noscript>",
        f'<script type="application/json" class="advx-meta">{meta}</script>',
        f'<script type="text/plain" class="advx-frames">{frames.payload}</script>',
        f"<script>{static_text('explore.js')}</script>",
        "</figure>",
    )
    return "\n".join(part for part in parts if part)


def slider_row(slider: Slider, width: int) -> str:
    """A native range input over the grid, disabled until the frames are there.

    The value beside it keeps room for `width` characters, so that the sliders line up.
    """
    texts = [slider.texts[i] for i in slider.grid]
    start = slider.grid_start
    return (
        f"<label><span>{html.escape(slider.label)}</span>"
        f'<input type="range" name="{html.escape(slider.name)}" min="0" max="{len(texts) - 1}" '
        f'step="1" value="{start}" aria-valuetext="{html.escape(texts[start])}" '
        'autocomplete="off" disabled>'
        f'<output aria-live="off" style="min-width:{width}ch">'
        f"{html.escape(texts[start])}</output></label>"
    )


def play_button(sliders: Sequence[Slider], play: str) -> str:
    """A button that steps through one slider."""
    position = [slider.name for slider in sliders].index(play)
    label = html.escape(sliders[position].label)
    return (
        f'<button type="button" class="advx-play" data-slider="{position}" disabled>'
        f"Play {label}</button>"
    )


def metadata(frames: Frames, sliders: Sequence[Slider], alt: str) -> str:
    """What the script needs besides the frames, as JSON that cannot end its element."""
    meta = {
        "alt": alt,
        "type": frames.first.mime,
        "values": [[slider.texts[i] for i in slider.grid] for slider in sliders],
        "frame": frames.index,
        "sentence": frames.sentences,
    }
    return json.dumps(meta, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
