from collections import Counter

import pytest
import torch

from fovea.data.index import Index
from fovea.data.loading.batch_samplers import EvalBatchSampler, Key, TrainBatchSampler, occurrences_before
from fovea.data.loading.samplers import ClassBalanced, RepeatedAugmentation, Sampler, Sequential, Shuffled, Weighted
from fovea.data.progressive import Progression
from fovea.data.random_numbers import derive_seed

TARGETS = torch.arange(103).pow(2) % 7  # four classes of unequal size; three of the seven have no image
INDEX = Index([f"{n}.png" for n in range(103)], TARGETS)
NAMES = list("abcdefg")
SAMPLERS: dict[str, Sampler] = {
    "shuffled": Shuffled(INDEX, NAMES),
    "in order": Sequential(INDEX, NAMES),
    "balanced": ClassBalanced(INDEX, NAMES),
    "few of a class": ClassBalanced(INDEX, NAMES, samples=50),
    "weighted": Weighted(INDEX, NAMES, power=1.0, samples=205),
    "repeated": RepeatedAugmentation(INDEX, NAMES),
}


def train_batches(
    epoch: int, world_size: int, batch: int = 0, sampler: Sampler = SAMPLERS["shuffled"], batch_size: int = 12
) -> list[list[list[Key]]]:
    """[rank][batch] -> keys"""
    ranks = []
    for rank in range(world_size):
        batches = TrainBatchSampler(sampler, batch_size, seed=7, rank=rank, world_size=world_size)
        batches.start_at(epoch, batch)
        ranks.append(list(batches))
    return ranks


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_ranks_share_each_batch_of_a_single_device_in_turn(world_size: int, sampler: Sampler) -> None:
    (alone,) = train_batches(epoch=3, world_size=1, sampler=sampler)
    shared = train_batches(epoch=3, world_size=world_size, sampler=sampler)
    assert {len(rank) for rank in shared} == {len(alone)} == {len(sampler) // 12}
    assert {len(batch) for batch in shared[0]} == {12 // world_size}
    for number, batch in enumerate(alone):
        merged = [shared[n % world_size][number][n // world_size] for n in range(12)]
        assert merged == batch


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_starting_at_any_batch_gives_the_rest_of_the_epoch(sampler: Sampler) -> None:
    whole = train_batches(epoch=2, world_size=2, sampler=sampler)
    for start in range(len(whole[0]) + 1):
        rest = train_batches(epoch=2, world_size=2, batch=start, sampler=sampler)
        assert rest == [rank[start:] for rank in whole]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_key_contains_how_often_its_image_was_drawn_before(sampler: Sampler) -> None:
    (batches,) = train_batches(epoch=1, world_size=1, sampler=sampler)
    seen: Counter[int] = Counter()
    for epoch, index, copy in (key for batch in batches for key in batch):
        assert (epoch, copy) == (1, seen[index])
        seen[index] += 1
    assert len(seen) > 20


def test_the_copies_of_an_image_are_on_different_ranks() -> None:
    ranks = train_batches(epoch=0, world_size=3, sampler=SAMPLERS["repeated"])
    for rank, batches in enumerate(ranks):
        assert {copy for batch in batches for _, _, copy in batch} == {rank}


def test_occurrences_before_matches_a_plain_loop() -> None:
    draws = torch.randint(0, 30, (200,), generator=torch.Generator().manual_seed(0))
    assert occurrences_before(draws).tolist() == [draws[:n].tolist().count(int(draws[n])) for n in range(200)]


def test_an_epoch_repeats_no_image_and_drops_less_than_a_batch() -> None:
    (batches,) = train_batches(epoch=0, world_size=1)
    counted = Counter(index for batch in batches for _, index, _ in batch)
    assert set(counted.values()) == {1}
    assert 103 - 12 < len(counted) <= 103


def test_the_default_order_is_torchs_permutation_seeded_by_seed_and_epoch() -> None:
    (batches,) = train_batches(epoch=5, world_size=1)
    expected = torch.randperm(103, generator=torch.Generator().manual_seed(derive_seed(7, 5)))
    assert [index for batch in batches for _, index, _ in batch] == expected[:96].tolist()


def test_each_epoch_has_its_own_reproducible_order() -> None:
    first, again, second = (train_batches(epoch=e, world_size=1)[0] for e in (0, 0, 1))
    assert first == again
    assert [[i for _, i, _ in b] for b in first] != [[i for _, i, _ in b] for b in second]
    assert {epoch for batch in second for epoch, _, _ in batch} == {1}


@pytest.mark.parametrize(
    ("sampler", "batch_size", "message"),
    [
        ("shuffled", 13, "multiple, such as 12"),
        ("shuffled", 200, "103 training images"),
        ("few of a class", 52, "50 training images: lower it"),
    ],
)
def test_an_invalid_batch_size_is_an_error_with_a_remedy(sampler: str, batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainBatchSampler(SAMPLERS[sampler], batch_size, seed=0, rank=0, world_size=2)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (Progression(13, 64, 3, 13), r"data\.progressive\.batch_size=13 .* 2 devices: make it a multiple, such as 12"),
        (Progression(12, 63, 3, 12), r"data\.batch_size=63 .* such as 62"),
        (Progression(200, 50, 3, 50), r"data\.progressive\.batch_size=200 is more than the 103 training images"),
    ],
)
def test_an_invalid_size_of_batches_that_change_names_its_key(sizes: Progression, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainBatchSampler(SAMPLERS["shuffled"], sizes, seed=0, rank=0, world_size=2)


def test_the_ranks_share_batches_that_change() -> None:
    sizes, draws = Progression(4, 12, 2, 4), SAMPLERS["shuffled"].draw(7, 1).tolist()
    ranks = [TrainBatchSampler(SAMPLERS["shuffled"], sizes, 7, rank, 2) for rank in (0, 1)]
    for rank in ranks:
        rank.start_at(1, 3)
    shared = [[[index for _, index, _ in keys] for keys in rank] for rank in ranks]
    expected = [draws[start : start + 8] for start in range(3 * 8, 103 - 7, 8)]
    assert shared == [[batch[0::2] for batch in expected], [batch[1::2] for batch in expected]]
    assert ranks[0].batches_of_epochs == [103 // 4, 103 // 8, 103 // 12]
    assert len(ranks[0]) == 103 // 8
    assert ranks[0].rank_batch_sizes == [2, 4, 6]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 101])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_uses_every_image_once_with_any_number_of_ranks(size: int, world_size: int) -> None:
    ranks = [EvalBatchSampler(size, 6, rank, world_size) for rank in range(world_size)]
    counted = Counter(index for rank in ranks for batch in rank for _, index, _ in batch)
    assert counted == Counter(range(size))
    for rank in ranks:
        assert len(list(rank)) == len(rank) >= 1
        assert [max(map(len, rank))] == rank.rank_batch_sizes
