import numpy as np
from scipy import stats

from fovea.data.check.odd_sizes import outliers


def test_a_value_far_from_the_others_is_an_outlier_on_either_side() -> None:
    values = np.append(np.random.default_rng(0).uniform(200, 400, 500), [2, 90000, 150, 700])
    assert np.flatnonzero(outliers(values)).tolist() == [500, 501]


def test_the_fences_are_tukeys_and_a_factor_of_two() -> None:
    values = 2.0 ** np.random.default_rng(1).standard_t(2, 2000)
    logs = np.log2(values)
    low, high = (stats.scoreatpercentile(logs, share) for share in (25, 75))
    reach = 3 * stats.iqr(logs) + 1
    expected = [value < low - reach or value > high + reach for value in logs]
    assert outliers(values).tolist() == expected
    assert 0 < sum(expected) < 100


def test_among_equal_values_only_a_factor_of_more_than_two_is_odd() -> None:
    assert outliers(np.array([32.0] * 20 + [17, 60, 15, 70])).tolist() == [False] * 22 + [True] * 2
    assert outliers(np.empty(0)).tolist() == []
    assert outliers(np.array([5.0])).tolist() == [False]
