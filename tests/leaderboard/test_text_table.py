"""The leaderboard on a terminal."""

from pathlib import Path
from typing import Any

from board_files import write_run

from fovea.leaderboard.entries import find
from fovea.leaderboard.groups import grouped
from fovea.leaderboard.text_table import table

MANY = {"accuracy": 0.8, "f1": 0.7, "loss": 0.5, "recall": None}


def job(folder: Path, number: int, *overrides: str, **results: Any) -> None:
    config = {"optimizer": {word.partition("=")[0]: word for word in overrides if not word.startswith("seed")}}
    about = {"number": number, "overrides": list(overrides)}
    write_run(folder / str(number), config=config, job=about, **{"test": MANY, **results})


def test_jobs_are_rows_with_what_they_share_and_their_errors_below(tmp_path: Path) -> None:
    job(tmp_path, 0, "model=a", "x=1", seconds=200.0)
    job(tmp_path, 1, "model=b", "x=1", best=0.95)
    job(tmp_path, 2, "model=c", "x=1", best=None, test={}, status="failed", error="ValueError: no such model")
    assert table(grouped(find([tmp_path])), None).splitlines() == [
        "job  overrides  status    val/accuracy  test/accuracy  test/f1  test/loss  test/recall        time",
        "1    model=b    finished        0.9500         0.8000   0.7000     0.5000    undefined        10 s",
        "0    model=a    finished        0.9000         0.8000   0.7000     0.5000    undefined  3 min 20 s",
        "2    model=c    failed                                                                        10 s",
        "all with x=1",
        "job 2 failed: ValueError: no such model",
    ]


def test_a_narrow_terminal_gets_the_monitored_figure_and_wrapped_overrides(tmp_path: Path) -> None:
    long = [f"optimizer.weight_decay_of_part_{n}=0.0001" for n in (1, 2)]
    job(tmp_path, 0, "seed=0", *long, "model=a")
    job(tmp_path, 1, "seed=1", *long, "model=a")
    job(tmp_path, 2, "seed=0", "model=b", "trainer.max_epochs=3", "data.batch_size=128", "optimizer.lr=0.1")
    lines = table(grouped(find([tmp_path])), 80).splitlines()
    assert lines[0].split() == ["job", "overrides", "status", "n", "val/accuracy", "test/accuracy", "time"]
    assert max(map(len, lines)) <= 80
    start = next(n for n, line in enumerate(lines) if line.startswith("0 1 "))
    rows = [line.split() for line in lines[start : start + 4]]
    assert rows[0][3:] == ["2", "finished", "2", "0.9000", "0.8000", "10", "s"]
    assert rows[1][1:] == ["±", "0.0000", "±", "0.0000"]
    wrapped = [rows[0][2], rows[1][0], *(" ".join(row) for row in rows[2:])]
    assert wrapped == [
        "optimizer.weight_decay_",
        "of_part_1=0.0001",
        "optimizer.weight_decay_",
        "of_part_2=0.0001 model=a",
    ]


def test_runs_with_long_names_are_numbered_and_listed_below(tmp_path: Path) -> None:
    for name in ("2026-11-22_14-03-59_1f3a9c", "2026-11-22_15-03-59_1f3a9d"):
        write_run(tmp_path / name)
    lines = table(grouped(find([tmp_path])), None).splitlines()
    assert lines[0].startswith("run  overrides")
    assert lines[-2:] == [f"1  {entry.folder}" for entry in find([tmp_path])]


def test_figures_of_any_size_keep_digits(tmp_path: Path) -> None:
    for number, factor in enumerate((1, 2)):
        test = {"accuracy": 1.2e-5 * factor, "loss": 1234.5678 * factor}
        job(tmp_path, number, f"seed={number}", best=0.99361 + 2e-5 * factor, test=test)
    row = table(grouped(find([tmp_path])), None).splitlines()[1]
    assert "0.9936 ± 0.0000  1.8e-05 ± 8.49e-06  1851.8517 ± 872.9713" in row


def test_a_figure_that_some_runs_lack_says_of_how_many_runs_it_is(tmp_path: Path) -> None:
    for number, value in enumerate((0.5, None, 0.7)):
        job(tmp_path, number, f"seed={number}", test={"accuracy": 0.5, "auroc": value})
    row = table(grouped(find([tmp_path])), None).splitlines()[1]
    assert "0.5000 ± 0.0000  0.6000 ± 0.1414 (n = 2)" in row


def test_statuses_have_a_line_each_where_the_terminal_is_narrow(tmp_path: Path) -> None:
    for number, status in enumerate(("finished", "finished", "failed", "interrupted")):
        job(tmp_path, number, f"seed={number}", "optimizer.weight_decay=0.0001", "model=a", status=status)
    job(tmp_path, 4, "seed=0", "optimizer.weight_decay=0.001", "model=b")
    lines = table(grouped(find([tmp_path])), 80).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("0 1 2 3"))
    assert [part in line for part, line in zip(("2 finished", "1 failed", "1 interrupted"), lines[start:])] == [
        True
    ] * 3
    wide = table(grouped(find([tmp_path])), None)
    assert "2 finished, 1 failed, 1 interrupted" in wide
