"""The curves of several runs over each other."""

from pathlib import Path
from typing import Any

from board_files import write_run
from run_files import METRICS

from fovea.leaderboard import leaderboard_page
from fovea.leaderboard.curves import MOST_RUNS, overlaid
from fovea.leaderboard.entries import find
from fovea.leaderboard.groups import grouped


def write_job(folder: Path, number: int, *words: str, **more: Any) -> Path:
    config = {"model": {"words": [word for word in words if not word.startswith("seed")]}}
    job = {"number": number, "overrides": list(words)}
    run = write_run(folder / str(number), config=config, job=job, **more)
    (run / "metrics.csv").write_text(METRICS)
    return run


def test_every_run_has_a_curve_even_if_two_have_the_same_seed(tmp_path: Path) -> None:
    for number, words in enumerate((["seed=0"], ["seed=0"], ["seed=1"], ["x=1"])):
        write_job(tmp_path, number, *words)
    charts, _ = overlaid(grouped(find([tmp_path])))
    assert charts[0]["labels"] == ["1 seed=0 0", "1 seed=0 1", "1 seed=1", "2"]
    assert charts[0]["colors"] == [0, 0, 0, 1]
    assert all(list(chart["curves"]) == chart["labels"] for chart in charts)


def test_the_monitored_chart_is_first_also_for_averaged_weights(tmp_path: Path) -> None:
    write_job(tmp_path / "raw", 0)
    write_job(tmp_path / "averaged", 0, monitor="val/ema_accuracy")
    titles = [[chart["title"] for chart in overlaid(grouped(find([tmp_path / n])))[0]] for n in ("raw", "averaged")]
    assert [found[0] for found in titles] == ["val accuracy", "val ema accuracy"]
    assert set(titles[0]) == set(titles[1])


def test_a_run_with_a_damaged_history_has_no_curves_and_is_named(tmp_path: Path) -> None:
    file = write_job(tmp_path, 0, "x=0") / "metrics.csv"
    file.write_text("epoch,step,val/accuracy\n1,x,0.5\n")
    write_job(tmp_path, 1, "x=1")
    groups = grouped(find([tmp_path]))
    charts, sentences = overlaid(groups)
    assert {tuple(chart["labels"]) for chart in charts} == {("2",)}
    assert len(sentences) == 1
    assert f"{file} is damaged" in sentences[0]
    leaderboard_page.write(tmp_path / "page.html", "", [], groups)
    assert f"{file} is damaged" in (tmp_path / "page.html").read_text()


def test_only_runs_with_a_curve_are_in_the_legend(tmp_path: Path) -> None:
    for number in range(MOST_RUNS + 5):
        write_job(tmp_path, number, f"x={number}")
    leaderboard_page.write(tmp_path / "page.html", "", [], grouped(find([tmp_path])))
    page = (tmp_path / "page.html").read_text()
    assert page.count('class="swatch"') == MOST_RUNS
    assert f"The first {MOST_RUNS} of {MOST_RUNS + 5} runs." in page
