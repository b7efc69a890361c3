import pytest

from fovea.speed.batch_size_search import CLOSE, doubled, largest_fitting


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7, 8, 9, 100, 127, 128, 1000, 5000])
@pytest.mark.parametrize("first", [1, 8, 64])
def test_the_search_ends_near_the_largest_size_that_fits(first: int, most: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= most

    found = largest_fitting(fits, first, limit=1000)
    expected = min(most, 1000)
    assert found <= expected
    assert expected - found <= found / CLOSE  # exact for small sizes
    assert len(set(tried)) == len(tried)
    assert len(tried) <= 16
    assert all(1 <= size <= 1000 for size in tried)


def test_doubled_sizes_end_with_the_limit() -> None:
    assert doubled(8, 100) == [8, 16, 32, 64, 100]
    assert doubled(8, 64) == [8, 16, 32, 64]
    assert doubled(8, 8) == [8]
