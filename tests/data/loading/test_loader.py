"""Workers, shared memory, and the same batches whoever makes them."""

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
from fovea.data.loading.batch_samplers import EvalBatches, TrainBatches
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.loader import BatchLoader, TrainLoader
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


def training(index: Index, num_workers: int) -> tuple[BatchLoader, TrainBatches]:
    batches = TrainBatches(Shuffled(index), 4, seed=0)
    return BatchLoader(ImageDataset(index, AUGMENT, seed=5), batches, num_workers, persistent=True), batches


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return all(
        torch.equal(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_batches_are_the_same_whatever_the_workers_in_every_epoch_and_from_every_place(
    index: Index, num_workers: int
) -> None:
    place = (0, 0)
    alone, batches = training(index, 0)
    shared, of_shared = training(index, num_workers)
    here, there = TrainLoader(alone, batches, lambda: place), TrainLoader(shared, of_shared, lambda: place)
    whole = {}
    for epoch in (0, 1):
        place = (epoch, 0)
        whole[epoch] = list(here)
        assert len(whole[epoch]) == 6
        assert same(list(there), whole[epoch])  # the second time by workers that lived on
    for first in range(6):
        place = (1, first)
        assert same(list(there), whole[1][first:])
        assert same(list(here), whole[1][first:])


def test_fresh_workers_make_what_persistent_ones_make(index: Index) -> None:
    persistent, batches = training(index, 2)
    list(persistent)
    batches.start_at(1, 0)
    fresh, of_fresh = training(index, 2)
    of_fresh.start_at(1, 0)
    assert same(list(persistent), list(fresh))


@pytest.mark.parametrize("order", [Shuffled, RepeatedAugmentation])
@pytest.mark.parametrize("place", [(0, 0), (3, 2)])
def test_two_ranks_see_the_images_of_one_with_the_same_pixels(
    index: Index, order: type[Shuffled | RepeatedAugmentation], place: tuple[int, int]
) -> None:
    def epoch(rank: int, world_size: int, num_workers: int) -> list[Batch]:
        batches = TrainBatches(order(index), 4, 0, rank, world_size)
        batches.start_at(*place)
        return list(BatchLoader(ImageDataset(index, AUGMENT, seed=5), batches, num_workers))

    for batch, first, second in zip(epoch(0, 1, 0), epoch(0, 2, 2), epoch(1, 2, 0), strict=True):
        for one, a, b in zip(batch[:3], first[:3], second[:3], strict=True):
            assert torch.equal(one[0::2], a)
            assert torch.equal(one[1::2], b)


def test_the_copies_of_repeated_augmentation_differ_whoever_makes_them(index: Index) -> None:
    def epoch(num_workers: int) -> list[Batch]:
        batches = TrainBatches(RepeatedAugmentation(index, repeats=2), 4, seed=0)
        return list(BatchLoader(ImageDataset(index, AUGMENT), batches, num_workers))

    alone = epoch(0)
    assert same(alone, epoch(2))
    assert alone[0].indices[0] == alone[0].indices[1]
    assert not torch.equal(alone[0].images[0], alone[0].images[1])


def test_a_batch_that_is_held_on_to_keeps_its_pixels(index: Index) -> None:
    expected = list(training(index, 0)[0])
    loader, batches = training(index, 2)
    for epoch in (0, 0, 0):
        batches.start_at(epoch, 0)
        held = [batch.images[1:] for batch in loader]  # views of all of them, more than there are buffers
        for rows, batch in zip(held, expected, strict=True):
            assert torch.equal(rows, batch.images[1:])


def test_shared_memory_is_used_again(index: Index) -> None:
    loader, batches = training(index, 2)
    places = set()
    for epoch in range(5):
        batches.start_at(epoch, 0)
        for batch in loader:
            places.add(batch.images.data_ptr())
            del batch
    first, memory = loader.pool.memory.data_ptr(), loader.pool.memory.numel()
    assert len(loader.pool.memory) == 7
    assert all(first <= place < first + memory for place in places)
    gc.collect()
    assert not loader.pool.in_use


def test_an_iteration_that_is_given_up_loses_no_buffer(index: Index) -> None:
    loader, _ = training(index, 2)
    for _ in range(8):
        next(iter(loader))
    assert same(list(loader), list(training(index, 0)[0]))
    gc.collect()
    loader.pool.reset()
    assert len(loader.pool.free) == 7


def test_a_buffer_is_free_only_when_every_view_of_it_is_gone() -> None:
    pool = BufferPool(2, 3, 4)
    pool.reset()
    number = pool.take()
    assert number is not None
    images = pool.filled(number)
    with torch.inference_mode():
        view = images[1:, :, :2]
    del images
    gc.collect()
    assert pool.in_use == {number}
    del view
    assert pool.free == {0, 1}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_named_or_left_out_and_reported(index: Index, num_workers: int) -> None:
    Path(index.paths[3]).write_bytes(b"no image")
    truncated = Path(index.paths[7])
    truncated.write_bytes(truncated.read_bytes()[:-30])
    batches = EvalBatches(26, 8)
    with pytest.raises(UnreadableImage, match="é 3.png"):
        list(BatchLoader(ImageDataset(index, AUGMENT), batches, num_workers))
    kept = list(BatchLoader(ImageDataset(index, AUGMENT, on_error="skip"), batches, num_workers))
    assert [len(batch.images) for batch in kept] == [6, 8, 8, 2]
    assert kept[0].unreadable.tolist() == [3, 7]
    assert kept[0].indices.tolist() == [0, 1, 2, 4, 5, 6]
    assert kept[0].targets.tolist() == [0, 1, 2, 1, 2, 0]


def test_a_rank_without_images_gets_its_empty_batch(index: Index) -> None:
    few = index.take(torch.tensor([0]))
    (batch,) = BatchLoader(ImageDataset(few, AUGMENT), EvalBatches(1, 4, rank=1, world_size=2), 1)
    assert batch.images.shape == (0, 3, 16, 16)


def test_too_little_shared_memory_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", str(tmp_path))
    with pytest.raises(ValueError, match="num_workers.*--shm-size"):
        check_shared_memory(1 << 60)
    check_shared_memory(1)


def test_two_iterations_at_once_do_not_write_over_each_other(index: Index) -> None:
    expected = list(training(index, 0)[0])
    batches = TrainBatches(Shuffled(index), 4, seed=0)
    loader = BatchLoader(ImageDataset(index, AUGMENT, seed=5), batches, 2)
    for (first, second), batch in zip(zip(loader, loader, strict=True), expected, strict=True):
        assert torch.equal(first.images, batch.images)
        assert torch.equal(second.images, batch.images)


def test_after_an_error_the_loader_can_be_asked_again(index: Index) -> None:
    image = Path(index.paths[3]).read_bytes()
    Path(index.paths[3]).write_bytes(b"no image")
    loader, _ = training(index, 2)
    with pytest.raises(UnreadableImage):
        list(loader)
    Path(index.paths[3]).write_bytes(image)
    assert same(list(loader), list(training(index, 0)[0]))


def test_a_stock_loader_can_ask_for_plain_indices(index: Index) -> None:
    dataset = ImageDataset(index, AUGMENT)
    (batch,) = DataLoader(dataset, batch_size=26, collate_fn=lambda batch: batch)
    assert torch.equal(batch.images[3], dataset[3][0])


@pytest.mark.slow
def test_spawned_workers_make_the_same_batches(index: Index) -> None:
    loader, _ = training(index, 1)
    assert loader.workers is not None
    loader.workers.multiprocessing_context = mp.get_context("spawn")
    assert same(list(loader), list(training(index, 0)[0]))
