import numpy as np
import pytest
import torch

from adversarial_lab.norms import (
    GEOMETRIES,
    dual_length,
    project_l1,
    project_l2,
    project_linf,
    row_of,
)

norms = pytest.mark.parametrize("norm", sorted(GEOMETRIES))


@norms
def test_the_order_is_the_p_of_the_length(norm, rng):
    v = torch.randn(5, 7, generator=rng, dtype=torch.float64)
    row = GEOMETRIES[norm]
    torch.testing.assert_close(row.length(v), torch.linalg.vector_norm(v, row.order, dim=1))
    apart = torch.cdist(v, -v, row.order).diagonal()
    torch.testing.assert_close(row.length(2 * v), apart)


@norms
def test_the_dual_length_is_a_bound_that_is_attained(norm, rng):
    g = torch.randn(4, 6, generator=rng, dtype=torch.float64)
    inside = torch.stack([GEOMETRIES[norm].sample(g, rng) for _ in range(2000)])
    dual = dual_length(norm, g)
    reached = (g * inside).sum(2).amax(0)
    assert (reached <= dual + 1e-12).all() and (reached > 0.4 * dual).all()
    best = GEOMETRIES[norm].steepest(g, rng)
    torch.testing.assert_close((g * best).sum(1), dual)
    twice = GEOMETRIES[GEOMETRIES[GEOMETRIES[norm].dual].dual].length(g)
    torch.testing.assert_close(twice, GEOMETRIES[norm].length(g))  # the ball is its own bidual
    assert 1 / GEOMETRIES[norm].order + 1 / GEOMETRIES[GEOMETRIES[norm].dual].order == 1


@norms
@pytest.mark.parametrize("d", [1, 2, 9])
def test_the_euclidean_radius_is_that_of_the_farthest_point_of_the_ball(norm, d, rng):
    row = GEOMETRIES[norm]
    v = torch.randn(500, d, generator=rng, dtype=torch.float64)
    v = torch.cat([v / row.length(v)[:, None], torch.ones(1, d), torch.eye(d)[:1]])
    v = v[row.length(v) <= 1 + 1e-12]
    assert v.norm(dim=1).max().item() == pytest.approx(row.euclidean(d))


def test_helly_number_two_is_for_boxes_alone():
    """Balls that meet in pairs: boxes share the midrange, discs and octahedra may share nothing."""
    assert {name: row.helly for name, row in GEOMETRIES.items()} == {
        "linf": 2,
        "l2": None,
        "l1": None,
    }
    turn = 2 * np.pi * np.arange(3) / 3
    triangle = np.stack([np.cos(turn), np.sin(turn)], 1)  # circumradius 1, sides sqrt(3) < 2
    assert np.linalg.norm(triangle[0] - triangle[1]) / 2 < 1
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    apart = np.abs(corners[:, None] - corners).sum(-1).max() / 2
    # sum_i <corner_i, corner_i - c> does not depend on c, since the corners sum to 0
    assert apart == 2 < np.mean([corner @ corner for corner in corners])


def test_projections_known_by_hand():
    x, z = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.5, 0.5]])
    known = {
        project_linf: ([0.7, 0.5], [0.6, 0.5]),
        project_l2: ([0.7, 0.5], [0.6, 0.5]),
        project_l1: ([0.7, 0.5], [0.6, 0.5]),
    }
    for project, (free, boxed) in known.items():
        torch.testing.assert_close(project(x, z, 0.2), torch.tensor([free]))
        torch.testing.assert_close(project(x, z, 0.2, (0.0, 0.6)), torch.tensor([boxed]))
    z = x + torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(project_linf(x, z, 1.0), x + torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(project_l2(x, z, 1.0), x + torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(project_l1(x, z, 2.0), x + torch.tensor([[0.5, 1.5]]))


def test_an_l1_projection_from_far_away_is_not_too_long(rng):
    """The running sums lose what is small beside them: lambda alone gives 2e-12 too much."""
    x = torch.zeros(50, 300, dtype=torch.float64)
    z = 1e6 * torch.randn(50, 300, generator=rng, dtype=torch.float64)
    length = (project_l1(x, z, 1e-3) - x).abs().sum(1)
    assert (length <= 1e-3 * (1 + 1e-14)).all() and (length > 0.99e-3).all()


@pytest.mark.parametrize("norm", ["l3", None, ["l2"]])
def test_an_unknown_norm_is_answered_with_the_known_ones(norm, unchecked):
    with pytest.raises(ValueError, match=r"norm must be one of \['l1', 'l2'\] for pairs, got"):
        row_of(norm, {"l2": 1, "l1": 2}, " for pairs")
