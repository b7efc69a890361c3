import numpy as np
import torch

from fovea.models.patch_whitening import patch_products, whitening_filters


def test_patch_products_are_those_of_a_loop_over_all_patches() -> None:
    images = torch.randn(3, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    products, count = patch_products(images, (2, 3))
    expected = np.zeros((12, 12))
    patches = [images[b, :, y : y + 2, x : x + 3].numpy().ravel() for b in range(3) for y in range(4) for x in range(4)]
    for patch in patches:
        expected += np.outer(patch, patch)
    assert count == len(patches)
    np.testing.assert_allclose(products.numpy(), expected, rtol=1e-5)


def test_responses_of_the_filters_are_uncorrelated_and_of_unit_size() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    patches = torch.randn(500, 6, generator=generator, dtype=torch.float64) @ mixing
    filters = whitening_filters(patches.T @ patches / 500, epsilon=0.0)
    assert filters.shape == (12, 6)
    assert torch.equal(filters[6:], -filters[:6])
    responses = patches @ filters[:6].T
    torch.testing.assert_close(responses.T @ responses / 500, torch.eye(6, dtype=torch.float64))


def test_epsilon_limits_the_filter_of_a_pattern_that_does_not_occur() -> None:
    filters = whitening_filters(torch.diag(torch.tensor([1.0, 0.0])), epsilon=0.25)
    torch.testing.assert_close(filters.norm(dim=1), torch.tensor([2.0, 0.8**0.5, 2.0, 0.8**0.5]))
