"""leaderboard.html in a real browser, and leaderboard.csv beside it."""

import csv
import os
from pathlib import Path

import pytest
from board_files import write_run
from browser import COUNTED, look
from run_files import METRICS, SCRIPT

from fovea.leaderboard import leaderboard
from fovea.leaderboard.entries import find

FACTS = """(page, window) => {
  const cells = id => [...page.querySelectorAll(`#${id} tbody tr`)].map(row => [...row.cells].map(c => c.textContent));
  const first = [...page.querySelectorAll("#groups th button")].find(button => button.textContent === "test/loss");
  const before = cells("groups");
  first.click(); first.click();
  return {
    faults: window.faults,
    requests: window.performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length,
    overflow: page.documentElement.scrollWidth > window.innerWidth,
    groups: before, sorted: cells("groups").map(row => row[0]), runs: cells("runs"),
    links: [...page.querySelectorAll("#runs a")].map(a => a.getAttribute("href")),
    charts: page.querySelectorAll(".uplot canvas").length,
    errors: [...page.querySelectorAll("td.bad")].map(c => c.textContent),
    swatches: page.querySelectorAll(".swatch").length,
    legend: [...page.querySelectorAll(".plots > div:first-child .u-series")].slice(1).map(row => [
      row.querySelector(".u-label").textContent, row.querySelector(".u-marker").style.borderColor]),
    colors: [...page.querySelectorAll(".swatch")].map(swatch => swatch.style.backgroundColor),
  };
}"""


def made(folder: Path) -> Path:
    """Write a sweep of three settings, one of which fails, with two seeds of the first."""
    settings = ((0, 0, "a", 0.9, 0.3), (1, 1, "a", 0.8, 0.5), (2, 0, SCRIPT, 0.7, 0.1))
    for number, seed, model, best, loss in settings:
        job = {"number": number, "overrides": [f"seed={seed}", f"model={model}"]}
        run = write_run(folder / str(number), best, {"accuracy": best, "loss": loss}, {"model": {"n": model}}, job=job)
        (run / "metrics.csv").write_text(METRICS)
        (run / "report.html").write_text("a report")
    job = {"number": 3, "overrides": ["seed=0", "model=c"]}
    write_run(folder / "3", None, {}, {"model": {"n": "c"}}, job=job, status="failed", error=f"ValueError: {SCRIPT}")
    return leaderboard.write(folder, f"sweep {SCRIPT}", [SCRIPT], find([folder]), None)


def test_the_page_shows_groups_runs_curves_and_errors_without_a_fault(tmp_path: Path) -> None:
    page = made(tmp_path / "sw é").read_text("utf-8").replace("<head>", COUNTED)
    facts = look(page, FACTS, tmp_path, width=390, dark=True)
    assert (facts["faults"], facts["requests"], facts["overflow"]) == ([], 0, False)
    assert facts["groups"] == [
        ["1", "model=a", "2 finished", "2", "0.8500 ± 0.0707", "0.8500 ± 0.0707", "0.4000 ± 0.1414", "10 s"],
        ["2", f"model={SCRIPT}", "finished", "1", "0.7000", "0.7000", "0.1000", "10 s"],
        ["3", "model=c", "failed", "1", "", "", "", "10 s"],
    ]
    assert facts["sorted"] == ["2", "1", "3"]  # by test/loss, rising; without a value last
    assert [row[:4] for row in facts["runs"]] == [
        ["1", "0", "seed=0 model=a", "finished"],
        ["1", "1", "seed=1 model=a", "finished"],
        ["2", "2", f"seed=0 model={SCRIPT}", "finished"],
        ["3", "3", "seed=0 model=c", "failed"],
    ]
    assert facts["links"] == ["0/report.html", "1/report.html", "2/report.html"]
    assert facts["errors"] == [f"ValueError: {SCRIPT}"]
    assert (facts["charts"], facts["swatches"]) == (5, 2)  # loss and accuracy of train and val, and val ema accuracy
    first, second = facts["colors"]  # of the groups
    assert facts["legend"] == [["1 seed=0", first], ["1 seed=1", first], ["2", second]]


def test_the_csv_has_a_row_for_each_run_with_the_figures_of_its_group(tmp_path: Path) -> None:
    made(tmp_path)
    with (tmp_path / "leaderboard.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["group"], row["run"], row["n"], row["report"]) for row in rows] == [
        ("1", "0", "2", "0/report.html"),
        ("1", "1", "2", "1/report.html"),
        ("2", "2", "1", "2/report.html"),
        ("3", "3", "1", ""),
    ]
    assert [row["test/loss"] for row in rows] == ["0.3", "0.5", "0.1", ""]
    assert [float(row["test/loss mean"]) for row in rows[:2]] == [0.4, 0.4]
    assert rows[2]["test/loss deviation"] == ""
    assert rows[2]["overrides"] == f"seed=0 model={SCRIPT}"
    assert rows[3]["error"] == f"ValueError: {SCRIPT}"


def test_paths_are_relative_to_the_page_wherever_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, a relative path and a name that is not UTF-8."""
    folder = tmp_path / os.fsdecode(b"b\xff")
    made(folder)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for place in (Path("link"), Path(folder.name), folder):
        leaderboard.write(place, "", [], find([place]), None)
        assert 'href="0/report.html"' in (folder / "leaderboard.html").read_text("utf-8")
        with (folder / "leaderboard.csv").open(newline="", encoding="utf-8") as lines:
            assert [row["report"] for row in csv.DictReader(lines)] == [f"{n}/report.html" for n in range(3)] + [""]
    beside = leaderboard.write(tmp_path, "", [], find([folder]), None)
    assert 'href="b%FF/0/report.html"' in beside.read_text("utf-8")
    assert b"b\xff/0/report.html" in (tmp_path / "leaderboard.csv").read_bytes()


def test_figures_of_other_splits_and_opposite_modes_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", tested_on="val")
    assert leaderboard.cautions(find([tmp_path])) == ["The test figures are of the split val."]
    write_run(tmp_path / "b", config={"mode": "min"})
    assert leaderboard.cautions(find([tmp_path])) == [
        "Some runs maximize val/accuracy and others minimize it, so they are not sorted.",
        "The test figures are of different splits (test, val): don't compare them.",
    ]
    assert leaderboard.cautions(find([tmp_path / "b"])) == []


def test_runs_of_different_data_or_monitors_are_said_to_be_incomparable(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", data="d2", monitor="val/loss")
    said = leaderboard.text(find([tmp_path]), None)
    assert "2 different sets of images or labels: don't compare" in said
    assert "different monitors (val/accuracy, val/loss), so they are not sorted" in said
    page = leaderboard.write(tmp_path, "", [], find([tmp_path]), None).read_text("utf-8")
    assert "2 different sets of images or labels" in page
