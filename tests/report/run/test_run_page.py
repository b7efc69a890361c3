"""A run's report in a real browser: what it shows, what a click does, and that it needs no network."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest
from browser import COUNTED, look
from run_files import SCRIPT, make_run, predictions

from fovea.report.run import run_page
from fovea.report.run.comparison import compare

Task = Literal["multiclass", "multilabel"]
FACTS = """(page, window) => ({
  faults: window.faults,
  requests: window.performance.getEntriesByType("resource").map(e => e.name).filter(name => !name.startsWith("data:")),
  overflow: page.documentElement.scrollWidth > window.innerWidth,
  headings: [...page.querySelectorAll("h2")].map(h => h.textContent),
  charts: page.querySelectorAll(".uplot canvas").length,
  broken: [...page.images].filter(image => !image.naturalWidth).length,
  images: page.images.length,
  suspects: page.querySelectorAll('[data-rows*="suspect/0"] figure').length,
  background: window.getComputedStyle(page.body).backgroundColor,
})"""
SECTIONS = {
    "multiclass": "Which classes are confused",
    "multilabel": "Which labels are wrong",
}


def written(folder: Path, task: Task, classes: int, images: int, **results: Any) -> str:
    run = make_run(folder / "run", predictions(task, classes, images), **results)
    return run_page.write(run, run, [("data.root", SCRIPT, "null")]).read_text("utf-8").replace("<head>", COUNTED)


@pytest.mark.parametrize(
    ("task", "classes", "width", "dark"),
    [
        pytest.param("multiclass", 3, 1200, False, marks=pytest.mark.slow),
        ("multilabel", 10, 390, True),
        *(
            pytest.param(task, classes, width, dark, marks=pytest.mark.slow)
            for task, classes in (("multiclass", 3), ("multilabel", 10), ("multiclass", 100), ("multilabel", 100))
            for width, dark in ((1200, True), (390, False))
        ),
    ],
)
def test_the_page_shows_everything_without_a_fault_or_a_request(
    tmp_path: Path, task: Task, classes: int, width: int, dark: bool
) -> None:
    page = written(tmp_path, task, classes, max(60, 4 * classes))
    facts = look(page, FACTS, tmp_path, width=width, dark=dark)
    assert facts["faults"] == facts["requests"] == []
    assert not facts["overflow"]
    assert facts["headings"] == [
        *("What to try next", "Training", SECTIONS[task], "Classes", "Images", "Can the probabilities be believed?"),
        *("Labels that look wrong", "What the network saw", "How it was made"),
    ]
    assert facts["charts"] == 5
    assert facts["images"] > 20
    assert facts["broken"] == 0
    assert facts["suspects"] == 2
    assert (facts["background"] == "rgb(255, 255, 255)") != dark


def test_clicks_show_a_cells_images_sort_a_column_and_show_where_the_network_looked(tmp_path: Path) -> None:
    tested = predictions("multiclass", 12, 130)
    predicted = tested.probabilities.argmax(1)
    rows = [n for n in range(130) if int(tested.labels[n]) == 1 and int(predicted[n]) == 2]
    shown = look(
        written(tmp_path, "multiclass", 12, 130),
        """(page, window) => {
          page.querySelector('button.wrong[data-pair="1,2"]').click();
          const place = page.getElementById("pair");
          const header = [...page.querySelectorAll("#classes th")].find(th => th.textContent === "recall");
          const column = () => [...page.querySelectorAll("#classes tbody tr")].map(
            row => row.cells[header.cellIndex].textContent);
          const orders = [0, 1].map(() => { header.querySelector("button").click(); return column(); });
          const button = page.querySelector("button.heat"), image = button.closest("figure").querySelector("img");
          const pictures = [image.src, ...[0, 1].map(() => { button.click(); return image.src; })];
          return {title: place.querySelector("h3").textContent, figures: place.querySelectorAll("figure").length,
                  files: [...place.querySelectorAll("li")].map(item => item.textContent), orders, pictures,
                  faults: window.faults};
        }""",
        tmp_path,
    )
    assert shown["faults"] == []
    assert shown["title"] == f"{SCRIPT} predicted as class 2"
    assert [name.rpartition("/")[2] for name in shown["files"]] == [f"{row:05}.jpg" for row in rows]
    assert shown["figures"] == min(6, len(rows)) > 0
    for order, falling in zip(shown["orders"], (True, False), strict=True):
        values = [float(text) for text in order]
        assert values == sorted(values, reverse=falling)
        assert len(set(values)) > 3
    assert shown["pictures"][0] == shown["pictures"][2] != shown["pictures"][1]


@pytest.mark.slow
def test_undefined_cells_stay_last_when_a_column_is_sorted(tmp_path: Path) -> None:
    orders = look(
        written(tmp_path, "multiclass", 12, 7),  # five classes have no image
        """(page) => {
          const header = [...page.querySelectorAll("#classes th")].find(th => th.textContent === "recall");
          return [0, 1].map(() => {
            header.querySelector("button").click();
            return [...page.querySelectorAll("#classes tbody tr")].map(row => row.cells[header.cellIndex].textContent);
          });
        }""",
        tmp_path,
    )
    for order in orders:
        assert order[7:] == [""] * 5
        assert "" not in order[:7]


@pytest.mark.slow
def test_a_click_on_the_picture_of_many_classes_shows_the_nearest_mistake(tmp_path: Path) -> None:
    title = look(
        written(tmp_path, "multiclass", 60, 600),
        """(page, window) => {
          const canvas = page.getElementById("matrix"), box = canvas.getBoundingClientRect();
          const pair = JSON.parse(page.getElementById("data").textContent).pairs[0];
          canvas.dispatchEvent(new window.MouseEvent("click", {
            clientX: box.left + (pair.predicted + 0.5) * box.width / 60,
            clientY: box.top + (pair.label + 0.5) * box.height / 60}));
          return [pair.title, page.querySelector("#pair h3").textContent];
        }""",
        tmp_path,
    )
    assert title[0] == title[1]


def test_a_run_without_a_test_has_a_page_that_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", None, status="failed", error="ValueError: no <b>", test={}, intervals={})
    text = run_page.write(run, run, []).read_text("utf-8")
    assert re.findall("<h2>(.*)</h2>", text) == ["What to try next", "Training", "How it was made"]
    assert "ValueError: no &lt;b&gt;" in text
    assert "resume=" in text


def test_a_comparison_is_shown_with_its_tests(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", predictions("multiclass", 3, 60))
    against = compare("other & run", predictions("multiclass", 3, 60), predictions("multiclass", 3, 60, seed=1), {})
    text = run_page.write(run, run, [], against).read_text("utf-8")
    assert "other &amp; run" in text
    assert "McNemar" in text


@pytest.mark.slow
def test_a_thousand_classes_fit_into_five_megabytes(tmp_path: Path) -> None:
    page = written(tmp_path, "multiclass", 1000, 5000)
    assert len(page.encode()) < 5e6
    assert look(page, FACTS, tmp_path)["faults"] == []
