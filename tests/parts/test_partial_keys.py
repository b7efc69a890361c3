"""The keys of parts that are called later are checked when they are built."""

from functools import partial

import pytest
from conf_groups import composed
from torch import nn

from fovea import build
from fovea.optim.parameter_groups import all_parameters
from fovea.parts import optimization_parts
from fovea.parts.partial_keys import check_keys

NETWORK = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["+optimizer.betas=[0.9,0.99]", "+optimizer.spin=1"], r"optimizer: SGD has no argument betas, spin"),
        (["+scheduler.foo=1"], r"scheduler: \w+ has no argument foo.*: ~scheduler.foo$"),
        (["parameter_groups=all", "+parameter_groups.decay=0.5"], "leave it out: ~parameter_groups.decay"),
    ],
)
def test_an_argument_that_the_chosen_part_lacks_is_refused_with_the_way_to_leave_it_out(
    words: list[str], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        optimization_parts.optimization(composed("optimizer=sgd", *words), NETWORK)


def test_another_optimizer_for_an_experiment_needs_the_first_ones_arguments_left_out() -> None:
    words = ["experiment=cifar10_fast", "optimizer=adamw"]
    with pytest.raises(ValueError, match="~optimizer.momentum ~optimizer.nesterov"):
        optimization_parts.optimizer(composed(*words).optimizer)
    optimization_parts.optimizer(composed(*words, "~optimizer.momentum", "~optimizer.nesterov").optimizer)


def test_a_samplers_arguments_are_checked_before_the_training() -> None:
    cfg = composed("data=digits", "sampler=class_balanced", "+data.sampler.foo=1")
    cfg.class_names = None  # of the data
    with pytest.raises(ValueError, match=r"data.sampler: ClassBalanced has no argument foo"):
        build.datamodule(cfg)


def test_a_function_that_takes_any_name_and_what_is_no_partial_are_accepted() -> None:
    check_keys("optimizer", partial(dict, spin=1))
    check_keys("optimizer", partial(lambda _, **rest: rest, spin=1))
    check_keys("scheduler", all_parameters)
