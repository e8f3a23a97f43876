"""The look of the figures: readable colours, the same bytes each time, alt text, no globals."""

import base64
import itertools
import re
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from adversarial_lab.figures import (
    PALETTE,
    PIXELS_PER_INCH,
    figure,
    images,
    picture,
    render,
    static_text,
    to_png,
    to_svg,
)

HUE_ROTATE_180 = np.array(
    [[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]]
)  # https://www.w3.org/TR/filter-effects-1/#huerotateEquivalent

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
COLOUR_BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def rgb(colour):
    """Red, green and blue of #rrggbb in [0, 1]."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def linear(srgb):
    """Light from sRGB."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """The ratio of WCAG 2."""
    dark, light = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def in_the_dark(colour):
    """What the style sheet's filter makes of a colour."""
    amount = float(
        re.search(r"invert\(([\d.]+)\) hue-rotate\(180deg\)", static_text("figure.css"))[1]
    )
    return np.clip(HUE_ROTATE_180 @ (colour * (1 - 2 * amount) + amount), 0, 1)


def lab(light):
    """CIE Lab of linear RGB."""
    xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ) @ np.clip(light, 0, 1)
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("name", PALETTE)
def test_every_colour_stands_out_from_the_paper(name):
    white, colour = np.ones(3), rgb(PALETTE[name])
    assert contrast(colour, white) >= 3
    assert contrast(in_the_dark(colour), in_the_dark(white)) >= 3


def test_text_is_readable_in_the_dark():
    assert contrast(in_the_dark(np.zeros(3)), in_the_dark(np.ones(3))) >= 7


@pytest.mark.parametrize("kind", COLOUR_BLIND)
def test_colours_differ_to_the_colour_blind(kind):
    seen = {n: lab(COLOUR_BLIND[kind] @ linear(rgb(c))) for n, c in PALETTE.items()}
    for one, other in itertools.combinations(PALETTE, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, f"{one} and {other}"


def drawing():
    fig, ax = figure(3, 2)
    ax.plot([0, 1], [0, 1], label="a")
    ax.legend(loc="upper left")
    return fig


def test_a_figure_has_the_style_and_leaves_none_behind():
    import matplotlib

    before = dict(matplotlib.rcParams)
    fig, ax = figure(5, 3)
    assert dict(matplotlib.rcParams) == before
    assert isinstance(fig, Figure) and fig.get_layout_engine() is not None
    assert list(fig.get_size_inches()) == [5, 3]
    assert [ax.plot([0, i])[0].get_color() for i in range(3)] == list(PALETTE.values())[:3]
    assert not ax.spines["top"].get_visible()
    _, axes = figure(ncols=3, sharey=True)
    assert axes.shape == (3,)


def test_nothing_is_registered_with_pyplot():
    import subprocess

    code = (
        "import sys; from adversarial_lab.figures import figure; from adversarial_lab.explore "
        "import explore; from adversarial_lab.show import show; figure(); "
        "sys.exit(any(m in sys.modules for m in ('matplotlib.pyplot', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_bare_figure_shows_itself_in_a_notebook():
    data = drawing()._repr_png_()
    assert data.startswith(b"\x89PNG")


@pytest.mark.parametrize("encode", [to_svg, to_png, lambda fig: to_png(fig, colours=64)])
def test_the_same_figure_gives_the_same_bytes(encode):
    assert encode(drawing()) == encode(drawing())


def test_no_date_and_no_version_in_the_bytes():
    assert not re.search(r"Matplotlib|20\d\d-", to_svg(drawing()))
    assert b"Matplotlib" not in to_png(drawing())


def test_shorter_coordinates_move_nothing_visible():
    fig = drawing()
    long = render(fig).data.decode()
    assert not re.search(r"[ML] -?\d+\.\d{3,}", long)
    assert "scale(0.015625)" in long, "glyphs keep their scale"


def test_a_picture_carries_its_alt_text_and_size():
    bundle = picture(drawing(), alt='A "line" & more')._repr_mimebundle_()
    assert bundle.keys() == {"text/html", "image/png", "text/plain"}
    assert 'alt="A &quot;line&quot; &amp; more"' in bundle["text/html"]
    size = f'width="{3 * PIXELS_PER_INCH}" height="{2 * PIXELS_PER_INCH}"'
    assert size in bundle["text/html"] and "dark-light" in bundle["text/html"]
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/plain"] == 'A "line" & more'
    assert not re.search(r"url\(|https?:", bundle["text/html"])


def test_a_picture_without_alt_text_is_refused():
    with pytest.raises(ValueError, match="picture: alt='' is empty"):
        picture(drawing(), alt="")


def test_only_drawings_are_inverted_in_the_dark():
    def filled(ax):
        ax.contourf(np.arange(9.0).reshape(3, 3))

    def mesh(ax):
        ax.pcolormesh(np.arange(9.0).reshape(3, 3))

    def contours(ax):
        ax.contour(np.arange(9.0).reshape(3, 3))

    def pixels(ax):
        ax.imshow(np.eye(3))

    papers = {}
    for draw in (filled, mesh, contours, pixels):
        fig, ax = figure(2, 2)
        draw(ax)
        papers[draw.__name__] = render(fig).paper
    assert papers == {"filled": "tone", "mesh": "tone", "contours": "ink", "pixels": "tone"}


def test_heavy_drawings_are_sent_as_pixels():
    fig, ax = figure(3, 2)
    ax.plot(*np.random.default_rng(0).normal(size=(2, 9000)))
    assert render(fig).mime == "image/png"
    assert render(drawing()).mime == "image/svg+xml"
    assert render(images([[np.eye(3)]])).mime == "image/png"


def test_few_colours_are_few():
    import io

    fig = images([[np.linspace(0, 1, 784).reshape(28, 28)]])
    reduced = Image.open(io.BytesIO(to_png(fig, colours=16)))
    assert len(reduced.getcolors()) <= 16


def shown(fig):
    """Array, limits and title of each image of a figure."""
    return [
        (ax.images[0].get_array(), ax.images[0].get_clim(), ax.get_title())
        for ax in fig.axes
        if ax.images
    ]


def test_images_of_every_shape_show_their_own_pixels():
    torch = pytest.importorskip("torch")
    gray = np.linspace(0, 1, 12).reshape(3, 4)
    colour = np.random.default_rng(0).random((3, 5, 4))
    fig = images(
        [[gray, gray[None], torch.tensor(colour, requires_grad=True)]], titles=["a", "b", "c"]
    )
    (a, limits, title), (b, *_), (c, *_) = shown(fig)
    assert np.array_equal(a, gray) and np.array_equal(b, gray)
    assert limits == (0, 1) and title == "a"
    assert np.allclose(c, colour.transpose(1, 2, 0))


def test_a_perturbation_is_centred_on_zero():
    delta = np.array([[-0.1, 0.0], [0.05, 0.1]])
    colour = np.stack([delta, delta, delta])
    (gray, limits, _), (shifted, *_) = shown(images([[delta, colour]]))
    assert np.array_equal(gray, delta) and limits == (-0.1, 0.1)
    assert np.allclose(shifted[..., 0], [[0.0, 0.5], [0.75, 1.0]])
    (zero, *_), *_ = shown(images([[np.zeros((2, 2))]]))
    assert np.isfinite(zero).all()


def test_images_take_one_title_each_and_one_label_per_row():
    row = np.zeros((2, 4, 4))
    fig = images([row, row], titles=[["a", "b"], ["c", "d"]], labels=["first", "second"])
    assert [title for *_, title in shown(fig)] == ["a", "b", "c", "d"]
    assert [ax.get_ylabel() for ax in fig.axes] == ["first", "", "second", ""]
    assert [t for *_, t in shown(images([row, row], titles=["x", "y"]))] == ["x", "y", "", ""]
    ragged = images([row, row[:1]])
    assert len(shown(ragged)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(rows=[]), "rows holds no image"),
        (dict(rows=[[]]), "rows holds no image"),
        (dict(rows=[np.zeros((2, 4, 4, 4))]), r"an image has shape \(4, 4, 4\)"),
        (dict(rows=[np.zeros((2, 4, 4))], titles=["a"]), "titles for row 0 has 1 entries for 2"),
        (dict(rows=[np.zeros((2, 4, 4))], labels=["a", "b"]), "labels has 2 entries for 1 rows"),
        (dict(rows=[np.zeros((2, 4, 4))], titles=[["a", "b"]] * 2), "titles has 2 entries for 1"),
    ],
)
def test_bad_grids_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        images(**arguments)


def test_a_span_draws_a_row_as_perturbations_on_one_scale():
    zero, small = np.zeros((2, 2)), np.full((2, 2), 0.1)
    fig = images([[small, zero], [small, zero]], spans=[None, 0.4])
    limits = [ax.images[0].get_clim() for ax in fig.axes]
    assert limits == [(0, 1), (0, 1), (-0.4, 0.4), (-0.4, 0.4)]
    with pytest.raises(ValueError, match="spans has 1 entries for 2 rows"):
        images([[small], [zero]], spans=[None])
