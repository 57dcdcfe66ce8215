"""Medians and percentiles are values that were measured."""

from __future__ import annotations

import pytest

from benchmarks.suite.statistics import Spread, column, percentile, rounded, spread


def test_a_spread_has_middle_least_and_most() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)


def test_without_values_there_is_no_spread() -> None:
    assert spread([]) is None


def test_runs_that_lack_a_figure_are_left_out_of_its_column() -> None:
    assert column([{"a": 1.0}, {}, {"a": None}, {"a": 3.0}], "a") == Spread(2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.001, 1)]
)
def test_a_percentile_is_the_nearest_rank(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.5) == 7.0


def test_a_figure_is_kept_to_four_digits() -> None:
    assert [rounded(value) for value in (123_456.0, 0.012_345_6, 0.0)] == [123_500.0, 0.01235, 0.0]
