import numpy as np
import pytest

from fovea.data.check.class_balance import class_findings, probability_of_chance, total_variation

NAMES = ("cat", "dog", "owl")


def counts(**splits: list[int]) -> dict[str, np.ndarray]:
    return {split: np.array(values) for split, values in splits.items()}


def test_total_variation_is_half_the_sum_of_differences() -> None:
    assert total_variation(np.array([3, 1, 0]), np.array([1, 1, 2])) == pytest.approx((0.5 + 0 + 0.5) / 2)
    assert total_variation(np.array([1, 0]), np.array([0, 7])) == 1
    assert total_variation(np.array([0, 0]), np.array([1, 2])) == 0


def test_the_probability_is_that_of_pearsons_chi_square() -> None:
    one, other = np.array([30, 50, 0]), np.array([45, 20, 0])
    table = np.stack([one, other])[:, :2]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic = ((np.abs(table - expected) - 0.5) ** 2 / expected).sum()  # with Yates's correction, for two columns
    from scipy.stats import chi2

    assert probability_of_chance(one, other) == pytest.approx(chi2.sf(statistic, 1))
    assert probability_of_chance(np.array([5, 0]), np.array([9, 0])) == 1


def test_classes_without_and_with_few_images_are_found() -> None:
    found = class_findings(counts(train=[50, 3, 40], val=[10, 1, 0]), NAMES, least=10)
    assert [(row.kind, row.split, row.detail) for row in found] == [
        ("class without images", "val", "owl"),
        ("class with few images", "train", "dog: 3 images"),
    ]


def test_a_split_of_one_class_and_other_shares_are_found() -> None:
    found = class_findings(counts(train=[100, 100, 0], val=[50, 0, 0], test=[49, 51, 0]), NAMES, least=0)
    assert ("one class", "val", "all images are of cat") in [(row.kind, row.split, row.detail) for row in found]
    (balance,) = [row for row in found if row.kind == "class balance"]
    assert (balance.split, balance.other_split) == ("val", "train")
    assert balance.detail.startswith("total variation 0.500 from train")
    assert "cat 100.0% instead of 50.0%" in balance.detail


def test_a_random_split_is_not_reported() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.choice(30, 2000, p=rng.dirichlet(np.ones(30)))
        parts = {name: np.bincount(part, minlength=30) for name, part in (("a", labels[:1500]), ("b", labels[1500:]))}
        assert not [row for row in class_findings(parts, [str(k) for k in range(30)], 0) if row.kind == "class balance"]
