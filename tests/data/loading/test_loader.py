"""The loader gives the same batches with any number of workers and reuses shared memory."""

import gc
import multiprocessing as mp
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import ColorJitter

from fovea.data.index import Index
from fovea.data.loading import shared_memory
from fovea.data.loading.batch_samplers import EvalBatchSampler, TrainBatchSampler
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.loader import BatchLoader, TrainLoader, most_pixels
from fovea.data.loading.samplers import RepeatedAugmentation, Shuffled
from fovea.data.loading.shared_memory import BufferPool, check_shared_memory
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import RandomResizedCrop
from fovea.data.pixels.decode import UnreadableImage

AUGMENT = Augment(RandomResizedCrop(16), [ColorJitter(brightness=0.5)])


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """26 images of different sizes, every third a PNG."""
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"é {i}.{'jpg' if i % 3 else 'png'}") for i in range(26)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 255, (20 + i, 44 - i, 3), dtype=np.uint8)).save(path)
    return Index(paths, torch.arange(26) % 3)


def training(index: Index, num_workers: int) -> tuple[BatchLoader, TrainBatchSampler]:
    batches = TrainBatchSampler(Shuffled(index), 4, seed=0)
    return BatchLoader(ImageDataset(index, AUGMENT, seed=5), batches, num_workers, persistent=True), batches


def same(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_batches_do_not_depend_on_the_workers_in_any_epoch_from_any_resume_position(
    index: Index, num_workers: int
) -> None:
    position = (0, 0)
    alone, batches = training(index, 0)
    shared, shared_batches = training(index, num_workers)
    main, workers = TrainLoader(alone, batches, lambda: position), TrainLoader(shared, shared_batches, lambda: position)
    whole = {}
    for epoch in (0, 1):
        position = (epoch, 0)
        whole[epoch] = list(main)
        assert len(whole[epoch]) == 6
        assert same(list(workers), whole[epoch])  # in the second epoch by the same persistent workers
    for first in range(6):
        position = (1, first)
        assert same(list(workers), whole[1][first:])
        assert same(list(main), whole[1][first:])


def test_new_and_persistent_workers_make_the_same_batches(index: Index) -> None:
    persistent, batches = training(index, 2)
    list(persistent)
    batches.start_at(1, 0)
    fresh, fresh_batches = training(index, 2)
    fresh_batches.start_at(1, 0)
    assert same(list(persistent), list(fresh))


@pytest.mark.parametrize("sampler", [Shuffled, RepeatedAugmentation])
@pytest.mark.parametrize("position", [(0, 0), (3, 2)])
def test_two_ranks_together_get_the_batches_of_a_single_rank(
    index: Index, sampler: type[Shuffled | RepeatedAugmentation], position: tuple[int, int]
) -> None:
    def epoch(rank: int, world_size: int, num_workers: int) -> list[Batch]:
        batches = TrainBatchSampler(sampler(index), 4, 0, rank, world_size)
        batches.start_at(*position)
        return list(BatchLoader(ImageDataset(index, AUGMENT, seed=5), batches, num_workers))

    for batch, first, second in zip(epoch(0, 1, 0), epoch(0, 2, 2), epoch(1, 2, 0), strict=True):
        for one, a, b in zip(batch[:3], first[:3], second[:3], strict=True):
            assert torch.equal(one[0::2], a)
            assert torch.equal(one[1::2], b)


def test_copies_in_repeated_augmentation_are_augmented_differently(index: Index) -> None:
    def epoch(num_workers: int) -> list[Batch]:
        batches = TrainBatchSampler(RepeatedAugmentation(index, repeats=2), 4, seed=0)
        return list(BatchLoader(ImageDataset(index, AUGMENT), batches, num_workers))

    alone = epoch(0)
    assert same(alone, epoch(2))
    assert alone[0].indices[0] == alone[0].indices[1]
    assert not torch.equal(alone[0].images[0], alone[0].images[1])


def test_a_batch_that_is_kept_is_not_overwritten(index: Index) -> None:
    expected = list(training(index, 0)[0])
    loader, batches = training(index, 2)
    for epoch in (0, 0, 0):
        batches.start_at(epoch, 0)
        kept = [batch.images[1:] for batch in loader]  # views of more batches than there are buffers
        for rows, batch in zip(kept, expected, strict=True):
            assert torch.equal(rows, batch.images[1:])


def test_shared_memory_is_reused(index: Index) -> None:
    loader, batches = training(index, 2)
    addresses = set()
    for epoch in range(5):
        batches.start_at(epoch, 0)
        for batch in loader:
            addresses.add(batch.images.data_ptr())
            del batch
    first, memory = loader.pool.memory.data_ptr(), loader.pool.memory.numel()
    assert len(loader.pool.memory) == 7
    assert all(first <= address < first + memory for address in addresses)
    gc.collect()
    assert not loader.pool.in_use


def test_a_buffer_has_space_for_the_largest_batch_of_any_epoch_and_no_more() -> None:
    assert most_pixels([4], [16]) == 4 * 16 * 16
    assert most_pixels([8, 4, 2], [8, 12, 16, 20]) == max(8 * 8**2, 4 * 12**2, 2 * 16**2, 2 * 20**2)
    assert most_pixels([2, 8, 9], [8, 4]) == max(2 * 8**2, 8 * 4**2, 9 * 4**2)
    assert most_pixels([0], [16]) == 1


def test_an_abandoned_iteration_loses_no_buffer(index: Index) -> None:
    loader, _ = training(index, 2)
    for _ in range(8):
        next(iter(loader))
    assert same(list(loader), list(training(index, 0)[0]))
    gc.collect()
    loader.pool.reset()
    assert len(loader.pool.free) == 7


def test_a_buffer_is_free_only_after_all_its_views_are_deleted() -> None:
    pool = BufferPool(2, 3 * 4 * 4)
    pool.reset()
    number = pool.take()
    assert number is not None
    images = pool.filled(number, 3, 4)
    with torch.inference_mode():
        view = images[1:, :, :2]
    del images
    gc.collect()
    assert pool.in_use == {number}
    del view
    assert pool.free == {0, 1}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_named_or_skipped_and_reported(index: Index, num_workers: int) -> None:
    Path(index.paths[3]).write_bytes(b"no image")
    truncated = Path(index.paths[7])
    truncated.write_bytes(truncated.read_bytes()[:-30])
    batches = EvalBatchSampler(26, 8)
    with pytest.raises(UnreadableImage, match="é 3.png"):
        list(BatchLoader(ImageDataset(index, AUGMENT), batches, num_workers))
    kept = list(BatchLoader(ImageDataset(index, AUGMENT, on_error="skip"), batches, num_workers))
    assert [len(batch.images) for batch in kept] == [6, 8, 8, 2]
    assert kept[0].unreadable.tolist() == [3, 7]
    assert kept[0].indices.tolist() == [0, 1, 2, 4, 5, 6]
    assert kept[0].targets.tolist() == [0, 1, 2, 1, 2, 0]


def test_a_rank_without_images_gets_one_empty_batch(index: Index) -> None:
    few = index.take(torch.tensor([0]))
    (batch,) = BatchLoader(ImageDataset(few, AUGMENT), EvalBatchSampler(1, 4, rank=1, world_size=2), 1)
    assert batch.images.shape == (0, 3, 16, 16)


def test_too_little_shared_memory_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", str(tmp_path))
    with pytest.raises(ValueError, match="num_workers.*--shm-size"):
        check_shared_memory(1 << 60)
    check_shared_memory(1)


def test_two_simultaneous_iterations_do_not_overwrite_each_other(index: Index) -> None:
    expected = list(training(index, 0)[0])
    batches = TrainBatchSampler(Shuffled(index), 4, seed=0)
    loader = BatchLoader(ImageDataset(index, AUGMENT, seed=5), batches, 2)
    for (first, second), batch in zip(zip(loader, loader, strict=True), expected, strict=True):
        assert torch.equal(first.images, batch.images)
        assert torch.equal(second.images, batch.images)


def test_the_loader_can_be_iterated_again_after_an_error(index: Index) -> None:
    image = Path(index.paths[3]).read_bytes()
    Path(index.paths[3]).write_bytes(b"no image")
    loader, _ = training(index, 2)
    with pytest.raises(UnreadableImage):
        list(loader)
    Path(index.paths[3]).write_bytes(image)
    assert same(list(loader), list(training(index, 0)[0]))


def test_the_dataset_works_with_a_plain_dataloader(index: Index) -> None:
    dataset = ImageDataset(index, AUGMENT)
    (batch,) = DataLoader(dataset, batch_size=26, collate_fn=lambda batch: batch)
    assert torch.equal(batch.images[3], dataset[3][0])


@pytest.mark.slow
def test_spawned_workers_make_the_same_batches(index: Index) -> None:
    loader, _ = training(index, 1)
    assert loader.workers is not None
    loader.workers.multiprocessing_context = mp.get_context("spawn")
    assert same(list(loader), list(training(index, 0)[0]))
