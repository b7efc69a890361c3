"""scripts/find_lr.py, run from the command line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import SMALL

Invoke = Callable[..., tuple[int, str, str]]
FIND = "../scripts/find_lr"


@pytest.mark.parametrize(
    "words",
    [pytest.param("", marks=pytest.mark.slow), "mixing=mixup parameter_groups=head_faster callbacks=[default,agc,ema]"],
)
def test_it_prints_two_rates_and_writes_the_page_and_nothing_else(
    invoke: Invoke, tmp_path: Path, folder: Path, words: str
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer.precision=bf16-mixed", *words.split())
    code, out, err = invoke(FIND, *data, "steps=30", f"output={tmp_path}/page.html")
    assert code == 0, err
    rates = [float(rate) for rate in re.findall(r"optimizer\.lr=(\S+)", out)]
    assert len(rates) == 2
    assert all(1e-7 <= rate <= 10 for rate in rates)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count('<path class="curve') == 2 * 4  # two curves and two marks, in the chart and in the legend
    assert not (tmp_path / "runs").exists()


def test_a_network_whose_first_layer_whitens_is_tested_as_it_is_trained(
    invoke: Invoke, tmp_path: Path, folder: Path
) -> None:
    words = ("model=airbench", "model.widths=[4,4,4]", "callbacks=[default,whitening]", "data.batch_size=8")
    data = ("data=folder", f"data.root={folder}", "data.image_size=16", "data.num_workers=0", *words)
    code, out, err = invoke(FIND, *data, "steps=20", f"output={tmp_path}/page.html")
    assert code == 0, err
    assert "whiten whitens the images: 24 filters" in out


def test_wrong_rates_and_outputs_are_refused(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL)
    for word, said in (("lowest_lr=20", "must be below highest_lr"), ("output=page.txt", "ends in .html")):
        code, _, err = invoke(FIND, *data, word)
        assert code == 2
        assert said in err
