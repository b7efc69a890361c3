from collections import Counter

import pytest

from fovea.data.sampler import EvalBatches, TrainBatches


def train_batches(
    epoch: int, world_size: int, batch: int = 0, size: int = 103, batch_size: int = 12
) -> list[list[list]]:
    """[rank][batch] -> keys"""
    ranks = []
    for rank in range(world_size):
        batches = TrainBatches(size, batch_size, seed=7, rank=rank, world_size=world_size)
        batches.start_at(epoch, batch)
        ranks.append(list(batches))
    return ranks


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_a_global_batch_holds_the_same_images_for_any_number_of_devices(world_size: int) -> None:
    (alone,) = train_batches(epoch=3, world_size=1)
    shared = train_batches(epoch=3, world_size=world_size)
    assert {len(rank) for rank in shared} == {len(alone)}
    for number, batch in enumerate(alone):
        assert sorted(key for rank in shared for key in rank[number]) == sorted(batch)


def test_an_epoch_holds_no_image_twice_and_leaves_out_less_than_a_batch() -> None:
    (batches,) = train_batches(epoch=0, world_size=1)
    counted = Counter(index for batch in batches for _, index in batch)
    assert set(counted.values()) == {1}
    assert 103 - 12 < len(counted) <= 103


def test_each_epoch_has_an_order_of_its_own_that_a_second_asking_repeats() -> None:
    first, again, second = (train_batches(epoch=e, world_size=1)[0] for e in (0, 0, 1))
    assert first == again
    assert [[i for _, i in b] for b in first] != [[i for _, i in b] for b in second]
    assert {epoch for batch in second for epoch, _ in batch} == {1}


def test_starting_within_an_epoch_gives_the_rest_of_it() -> None:
    (whole,) = train_batches(epoch=2, world_size=1)
    for start in range(len(whole)):
        assert train_batches(epoch=2, world_size=1, batch=start)[0] == whole[start:]


@pytest.mark.parametrize(("batch_size", "said"), [(13, "multiple, such as 12"), (200, "103 training images")])
def test_a_batch_that_cannot_be_is_refused_with_its_remedy(batch_size: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainBatches(103, batch_size, seed=0, rank=0, world_size=2)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 101])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_counts_every_image_once_whatever_the_number_of_ranks(size: int, world_size: int) -> None:
    ranks = [EvalBatches(size, 6, rank, world_size) for rank in range(world_size)]
    counted = Counter(index for rank in ranks for batch in rank for _, index in batch)
    assert counted == Counter(range(size))
    for rank in ranks:
        assert len(list(rank)) == len(rank) >= 1
