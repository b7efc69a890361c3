"""Invalid options of the programs in scripts/ that read data give a short error, and nothing is written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import some

Invoke = Callable[..., tuple[int, str, str]]
PACK = [
    ([], "output is missing: type output=<value>"),
    (["output=x", "format=jpg"], "format=jpg: input should be 'files', 'jpeg' or 'raw'"),
    (["output=x", "format=raw", "quality=80"], "format=raw quality=80: format=jpeg needs a quality, 1 to 100"),
    (["output=x", "format=jpeg", "quality=101"], "quality=101: input should be less than or equal to 100"),
    (["output=x", "format=jpeg", "quality=null"], "format=jpeg quality=None: format=jpeg needs a quality"),
    (["output=x", "short_side=256"], "format=files keeps images as they are"),
    (["output=x", "format=raw", "long_side=0"], "long_side=0: input should be greater than 0"),
    (["output=x", "format=raw", "long_side=big"], "long_side=big: input should be a valid integer"),
    (["output=x", "num_workers=-1"], "num_workers=-1: input should be greater than or equal to 0"),
    (["output=x", "fromat=raw"], "fromat: there is no such key"),
    (["output=x", "data=folder"], "data.root=<folder>"),
]
VERIFY = [
    (["output=x", "near_distance=9"], "near_distance=9: input should be less than or equal to 8"),
    (["output=x", "near_correlation=2"], "near_correlation=2: input should be less than or equal to 1"),
    (["output=x", "strict=maybe"], "strict=maybe: input should be a valid boolean"),
    (["output=x", "data=folder"], "data.root=<folder>"),
]
BROWSE = [
    (["data=folder"], "data.root=<folder>"),
    (["output=page.txt"], "page.txt: give a file that ends in .html"),
    (["samples=101"], "samples=101: input should be less than or equal to 100"),
    (["sampels=3"], "sampels: there is no such key"),
]
IMAGES = ["data=folder", "data.root={folder}"]
PLOT_SCHEDULE = [
    ([*IMAGES, "output=page.png"], "page.png: give a file that ends in .html"),
    ([*IMAGES, "trainer.max_epochs=-1"], "the run has no end"),
    ([*IMAGES, "scheduler=cosinus"], "cosinus"),
    ([*IMAGES, "data.batch_size=99999"], "data.batch_size=99999 is more than the 36 training images"),
]
PROGRAMS = {"pack": some(PACK), "verify": VERIFY, "browse": BROWSE, "plot_schedule": PLOT_SCHEDULE}


@pytest.mark.parametrize(
    ("program", "words", "message"),
    [
        pytest.param(program, *getattr(case, "values", case), marks=getattr(case, "marks", ()))
        for program, cases in PROGRAMS.items()
        for case in cases
    ],
)
def test_an_invalid_option_gives_an_error_of_few_lines_and_nothing_is_written(
    invoke: Invoke,
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    words: list[str],
    message: str,
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    code, out, err = invoke(f"../scripts/{program}", *(word.format(folder=folder) for word in words))
    assert code == 2
    assert message in err
    assert len((out + err).splitlines()) <= 10
    assert "Traceback" not in err
    assert not list(work.iterdir())
