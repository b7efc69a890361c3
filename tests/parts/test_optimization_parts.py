"""The learning rate follows from the images of an optimizer step, and the log says how."""

import math
import sys

import pytest
from conf_groups import composed

from fovea import build
from fovea.config.saved import plain
from fovea.parts.optimization_parts import rate_factor, scaling_text

SMALL = ("data=digits", "data.batch_size=64", "trainer.accumulate_grad_batches=2", "optimizer=sgd", "optimizer.lr=0.4")


@pytest.mark.parametrize(
    ("words", "factor"),
    [
        ([], 1.0),
        (["lr_scaling=linear"], 0.5),
        (["lr_scaling=sqrt"], math.sqrt(0.5)),
        (["lr_scaling=linear", "lr_reference_batch=32"], 4.0),
        (["lr_scaling=sqrt", "lr_reference_batch=32"], 2.0),
    ],
)
def test_the_rate_of_every_group_follows_from_the_images_of_a_step(words: list[str], factor: float) -> None:
    cfg = composed(*SMALL, *words, "parameter_groups=head_faster", "scheduler=constant")
    assert rate_factor(cfg) == pytest.approx(factor)
    optimizer = build.task(cfg).configure_optimizers()["optimizer"]
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    assert rates == pytest.approx([0.04 * factor, 0.4 * factor])
    assert plain(cfg)["optimizer"]["lr"] == 0.4  # so that a resumed run is not scaled again


def test_the_log_states_the_rate_and_how_it_was_computed() -> None:
    cfg = composed(*SMALL, "lr_scaling=linear")
    assert scaling_text(cfg) == "learning rate: 0.2 = 0.4 x 128 / 256 for 128 images of a step (lr_scaling=linear)"
    cfg.lr_scaling = "sqrt"
    assert scaling_text(cfg).startswith("learning rate: 0.282843 = 0.4 x sqrt(128 / 256) for 128 images of a step")
    cfg.lr_scaling = None
    assert scaling_text(cfg) == ""


def test_an_optimizer_of_a_library_that_is_not_installed_is_an_error_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "timm.optim", raising=False)
    with pytest.raises(ValueError, match=r'optimizer._target_=timm.optim.Lamb can.* pip install -e "\.\[timm\]"'):
        build.task(composed("data=digits", "optimizer=lamb"))
