import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from fovea.data.check.near_duplicates import Clusters, candidate_pairs, correlations, is_plain, near_clusters


def hashes(count: int = 600, seed: int = 0) -> np.ndarray:
    """Random hashes, of which a third are others with up to ten bits changed; some are equal."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 2**64, count, dtype=np.uint64)
    for n in range(count // 3):
        mask = sum(1 << int(bit) for bit in rng.choice(64, n % 11, replace=False))
        found[count // 2 + n] = int(found[n]) ^ mask
    return found


@pytest.mark.parametrize("distance", range(9))
def test_exactly_the_pairs_within_the_distance_are_found(distance: int) -> None:
    values = hashes()
    found = {
        (min(pair), max(pair))
        for first, second in candidate_pairs(values, distance, Clusters(len(values)))
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    }
    close = np.bitwise_count(values[:, None] ^ values) <= distance
    assert found == set(zip(*(side.tolist() for side in np.nonzero(np.triu(close, 1))), strict=True))
    assert len(found) > 15


def grays(count: int, kinds: int, seed: int = 0) -> np.ndarray:
    """Gray copies that are noisy copies of a few."""
    rng = np.random.default_rng(seed)
    base = rng.integers(40, 200, (kinds, 16, 18))
    return (base[rng.integers(0, kinds, count)] + rng.integers(-25, 26, (count, 16, 18))).astype(np.uint8)


def test_clusters_are_the_connected_components_of_all_pairs() -> None:
    values, copies = np.repeat(hashes(60), 5), grays(300, 20)
    found = near_clusters(values, copies, 4, 0.9)
    close = np.bitwise_count(values[:, None] ^ values) <= 4
    related = np.corrcoef(copies.reshape(300, -1)) >= 0.9
    count, expected = connected_components(close & related)
    pairs = set(zip(found.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == count == len(set(found.tolist()))
    assert 100 < count < 290


def test_equal_hashes_of_different_images_are_not_near() -> None:
    assert len(set(near_clusters(np.zeros(40, np.uint64), grays(40, 40), 6, 0.98).tolist())) > 20


def test_thousands_of_equal_images_are_one_cluster() -> None:
    copies = np.repeat(grays(1, 1), 2000, axis=0)
    assert set(near_clusters(np.zeros(2000, np.uint64), copies, 6, 0.98).tolist()) == {0}
    assert len(near_clusters(np.empty(0, np.uint64), copies[:0], 6, 0.98)) == 0


def test_correlations_are_numpys() -> None:
    one, other = grays(30, 3), grays(30, 3, seed=1)
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(correlations(one, other), expected, atol=1e-5)


def test_an_image_of_nearly_one_color_is_plain() -> None:
    rng = np.random.default_rng(0)
    copies = np.stack(
        [np.full((16, 18), 255), np.zeros((16, 18)), rng.integers(100, 104, (16, 18)), np.eye(16, 18) * 255]
    )
    assert is_plain(copies.astype(np.uint8)).tolist() == [True, True, True, False]
    assert is_plain(copies[:0].astype(np.uint8)).tolist() == []
