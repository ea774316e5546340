"""Grids hold the values that the paper's words ask for, and a finer one holds those of the coarse one."""

import numpy as np
import pytest

from experiments.quadratic import comparisons, grids


def test_grids_are_evenly_spaced_from_end_to_end():
    assert grids.linear(0.5, 2, 4).tolist() == [0.5, 1.0, 1.5, 2.0]
    assert grids.logarithmic(0.25, 4, 3) == pytest.approx([0.25, 1.0, 4.0], rel=1e-15)
    assert grids.linear(0.4, 0.4, 1).tolist() == grids.logarithmic(0.4, 0.4, 1).tolist() == [0.4]


def test_a_finer_grid_holds_the_coarse_one():
    grid = grids.finer(comparisons.GRID_RATES, 100)
    assert grid.size == 9901
    np.testing.assert_array_equal(grid[::100], comparisons.GRID_RATES)
    np.testing.assert_allclose(grid[1:] / grid[:-1], 1000 ** (1 / 9900), rtol=1e-12)


def test_a_finer_grid_of_values_of_one_s_own_cuts_each_step_into_equal_ratios():
    assert grids.finer([0.4, 0.1, 0.2], 2) == pytest.approx([0.1, 0.1 * 2**0.5, 0.2, 0.2 * 2**0.5, 0.4], rel=1e-15)
    assert grids.finer(0.3, 5).tolist() == [0.3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grids.linear("x", 1, 3), "start must be a number, not 'x'"),
        (lambda: grids.linear(0, None, 3), "stop must be a number, not None"),
        (lambda: grids.linear(0, [1], 3), r"stop must be one number, not \[1.0\]"),
        (lambda: grids.linear(0, float("inf"), 3), "stop must be finite, not inf"),
        (lambda: grids.linear(0, 1, 1.5), "num must be an integer of at least 1, not 1.5"),
        (lambda: grids.linear(0, 1, 0), "num must be an integer of at least 1, not 0"),
        (lambda: grids.linear(0, 1, 1), "num=1 is a grid of one value: stop must be start, 0, not 1"),
        (lambda: grids.linear(0, 1, 10**9), "num must be at most 1000000, not 1000000000"),
        (lambda: grids.logarithmic(0, 1, 3), "must be above 0, not 0 and 1"),
        (lambda: grids.finer([0.1, 0.2], 0), "times must be an integer of at least 1, not 0"),
        (lambda: grids.finer([0.0, 0.2], 2), "values on a logarithmic scale must be above 0, not 0"),
        (lambda: grids.finer([], 2), "values must hold at least one value, not none"),
    ],
)
def test_a_bad_end_or_number_of_values_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
