from collections import Counter

import pytest
import torch

from fovea.data.index import Index
from fovea.data.loading.batch_samplers import EvalBatches, Key, TrainBatches, copies
from fovea.data.loading.samplers import ClassBalanced, InOrder, Order, RepeatedAugmentation, Shuffled, Weighted
from fovea.data.random_numbers import mix

TARGETS = torch.arange(103).pow(2) % 7  # four classes of unequal size; three of the seven have no image
INDEX = Index([f"{n}.png" for n in range(103)], TARGETS)
NAMES = list("abcdefg")
ORDERS: dict[str, Order] = {
    "shuffled": Shuffled(INDEX, NAMES),
    "in order": InOrder(INDEX, NAMES),
    "balanced": ClassBalanced(INDEX, NAMES),
    "few of a class": ClassBalanced(INDEX, NAMES, samples=50),
    "weighted": Weighted(INDEX, NAMES, power=1.0, samples=205),
    "repeated": RepeatedAugmentation(INDEX, NAMES),
}


def train_batches(
    epoch: int, world_size: int, batch: int = 0, order: Order = ORDERS["shuffled"], batch_size: int = 12
) -> list[list[list[Key]]]:
    """[rank][batch] -> keys"""
    ranks = []
    for rank in range(world_size):
        batches = TrainBatches(order, batch_size, seed=7, rank=rank, world_size=world_size)
        batches.start_at(epoch, batch)
        ranks.append(list(batches))
    return ranks


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_ranks_take_turns_through_the_batches_that_one_device_alone_has(world_size: int, order: Order) -> None:
    (alone,) = train_batches(epoch=3, world_size=1, order=order)
    shared = train_batches(epoch=3, world_size=world_size, order=order)
    assert {len(rank) for rank in shared} == {len(alone)} == {len(order) // 12}
    assert {len(batch) for batch in shared[0]} == {TrainBatches(order, 12, 0, 0, world_size).most}
    for number, batch in enumerate(alone):
        dealt = [shared[place % world_size][number][place // world_size] for place in range(12)]
        assert dealt == batch


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_starting_at_any_batch_gives_the_rest_of_the_epoch(order: Order) -> None:
    whole = train_batches(epoch=2, world_size=2, order=order)
    for start in range(len(whole[0]) + 1):
        rest = train_batches(epoch=2, world_size=2, batch=start, order=order)
        assert rest == [rank[start:] for rank in whole]


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_key_counts_how_often_its_image_came_before(order: Order) -> None:
    (batches,) = train_batches(epoch=1, world_size=1, order=order)
    seen: Counter[int] = Counter()
    for epoch, index, copy in (key for batch in batches for key in batch):
        assert (epoch, copy) == (1, seen[index])
        seen[index] += 1
    assert len(seen) > 20


def test_the_copies_of_an_image_are_on_different_ranks() -> None:
    ranks = train_batches(epoch=0, world_size=3, order=ORDERS["repeated"])
    for rank, batches in enumerate(ranks):
        assert {copy for batch in batches for _, _, copy in batch} == {rank}


def test_copies_are_those_of_a_plain_loop() -> None:
    draws = torch.randint(0, 30, (200,), generator=torch.Generator().manual_seed(0))
    assert copies(draws).tolist() == [draws[:place].tolist().count(int(draws[place])) for place in range(200)]


def test_an_epoch_holds_no_image_twice_and_leaves_out_less_than_a_batch() -> None:
    (batches,) = train_batches(epoch=0, world_size=1)
    counted = Counter(index for batch in batches for _, index, _ in batch)
    assert set(counted.values()) == {1}
    assert 103 - 12 < len(counted) <= 103


def test_the_default_order_is_torchs_permutation_of_the_seed_and_the_epoch() -> None:
    (batches,) = train_batches(epoch=5, world_size=1)
    expected = torch.randperm(103, generator=torch.Generator().manual_seed(mix(7, 5)))
    assert [index for batch in batches for _, index, _ in batch] == expected[:96].tolist()


def test_each_epoch_has_an_order_of_its_own_that_a_second_asking_repeats() -> None:
    first, again, second = (train_batches(epoch=e, world_size=1)[0] for e in (0, 0, 1))
    assert first == again
    assert [[i for _, i, _ in b] for b in first] != [[i for _, i, _ in b] for b in second]
    assert {epoch for batch in second for epoch, _, _ in batch} == {1}


@pytest.mark.parametrize(
    ("order", "batch_size", "said"),
    [
        ("shuffled", 13, "multiple, such as 12"),
        ("shuffled", 200, "103 training images"),
        ("few of a class", 52, "50 training images: lower it"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_with_its_remedy(order: str, batch_size: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainBatches(ORDERS[order], batch_size, seed=0, rank=0, world_size=2)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 101])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_counts_every_image_once_whatever_the_number_of_ranks(size: int, world_size: int) -> None:
    ranks = [EvalBatches(size, 6, rank, world_size) for rank in range(world_size)]
    counted = Counter(index for rank in ranks for batch in rank for _, index, _ in batch)
    assert counted == Counter(range(size))
    for rank in ranks:
        assert len(list(rank)) == len(rank) >= 1
        assert max(map(len, rank)) == rank.most
