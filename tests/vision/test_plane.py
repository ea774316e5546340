"""A plane through three points, by hand: its axes, coordinates in it, and distances from it."""

from __future__ import annotations

import pytest
import torch

from experiments.vision.plane import FLAT, Plane

FIRST, LAST = [1.0, 1.0, 1.0], [4.0, 5.0, 1.0]  # 3, 4 and 0 apart: a length of 5


def vector(*values):
    return torch.tensor(values, dtype=torch.float32)


@pytest.fixture
def plane():
    return Plane.through(vector(*FIRST), vector(1.6, 1.8, 3.0), vector(*LAST))  # the middle: 1 along, 2 above


def test_the_first_point_is_the_origin_and_the_axes_are_orthonormal_towards_the_others(plane):
    assert plane.origin.tolist() == FIRST
    assert plane.right.tolist() == pytest.approx([0.6, 0.8, 0], abs=1e-6)
    assert plane.up.tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    gram = torch.stack([plane.right, plane.up]) @ torch.stack([plane.right, plane.up]).T
    assert torch.allclose(gram, torch.eye(2, dtype=torch.float64), atol=1e-15, rtol=0)


def test_the_axes_are_orthogonal_to_rounding_where_the_three_are_almost_on_a_line():
    flat = Plane.through(vector(0, 0, 0), vector(3, 4, 1e-3), vector(6, 8, 0))
    assert abs((flat.right @ flat.up).item()) < 1e-11
    assert flat.up.norm().item() == pytest.approx(1, abs=1e-12)


def test_the_three_points_have_coordinates_in_the_plane_and_a_point_beside_it_its_distance(plane):
    beside = vector(1 - 0.8 * 5 + 0.6, 1 + 0.6 * 5 + 0.8, 1 - 7)  # 5 along (-.8, .6, 0), which is normal to the plane
    points = [vector(*FIRST), vector(1.6, 1.8, 3.0), vector(*LAST), beside]
    coordinates, distances = plane.projected(points)
    expected = torch.tensor([[0, 0], [1, 2], [5, 0], [1, -7]], dtype=torch.float64)
    assert torch.allclose(coordinates, expected, atol=1e-6, rtol=0)
    assert distances.tolist() == pytest.approx([0, 0, 0, 5], abs=1e-6)


def test_coordinates_lead_back_to_the_point(plane):
    assert plane.point(1, 2).tolist() == pytest.approx([1.6, 1.8, 3.0], abs=1e-6)
    assert plane.point(-5, 0.5).tolist() == pytest.approx([-2, -3, 1.5], abs=1e-6)
    assert plane.point(0, 0).tolist() == FIRST


@pytest.mark.parametrize(
    "middle",
    [[2.5, 3.0, 1.0], FIRST, LAST, [7.0, 9.0, 1.0], [2.5, 3.0, 1 + 0.9 * FLAT * 5]],
    ids=["between", "the first", "the last", "beyond", "of rounding alone"],
)
def test_three_points_on_a_line_span_no_plane(middle):
    points = [torch.tensor(point, dtype=torch.float64) for point in (FIRST, middle, LAST)]
    with pytest.raises(ValueError, match="the three points lie on a line"):
        Plane.through(*points)


def test_a_low_triangle_is_a_plane_all_the_same():
    points = [torch.tensor(point, dtype=torch.float64) for point in (FIRST, [2.5, 3.0, 1 + 1.1 * FLAT * 5], LAST)]
    assert Plane.through(*points).up.tolist() == pytest.approx([0, 0, 1], abs=1e-9)


def test_points_that_come_back_to_the_first_or_never_leave_it_span_no_plane():
    for middle in ([2.0, 3.0, 4.0], FIRST):
        with pytest.raises(ValueError, match="the three points lie on a line"):
            Plane.through(vector(*FIRST), vector(*middle), vector(*FIRST))
