import re
from pathlib import Path

import numpy as np
from browser import look

from fovea.report.charts import HEIGHT, WIDTH, curve
from fovea.report.schedule_page import Group, schedule_page, table


def points(path: str) -> np.ndarray:
    """(N, 2) points of a curve, as shares of the chart's width and height."""
    numbers = np.array(re.findall(r"[\d.e+-]+", path), float).reshape(-1, 2)
    return np.stack([numbers[:, 0] / WIDTH, 1 - numbers[:, 1] / HEIGHT], axis=1)


def test_a_curve_goes_through_every_value() -> None:
    found = points(curve(np.array([0.0, 3, 1]), 4))
    np.testing.assert_allclose(found, np.array([[0, 0], [0.5, 0.75], [1, 0.25]]))
    assert points(curve(np.array([2.0]), 4)).tolist() == [[0, 0.5]]


def test_a_long_curve_keeps_its_peaks_and_its_ends() -> None:
    values = np.ones(100_000)
    values[[12345, 77777]] = 5, 0
    values[-1] = 2
    found = points(curve(values, 5))
    assert len(found) < 1100
    assert [round(y, 3) for y in (found[:, 1].max(), found[:, 1].min(), found[0, 1], found[-1, 1])] == [1, 0, 0.2, 0.4]
    assert abs(found[found[:, 1].argmax(), 0] - 0.12345) < 1e-4


def groups() -> list[Group]:
    rates = np.linspace(0.1, 0, 50)
    return [
        Group("<b>", 1234567, 5e-4, rates),
        Group("pg2", 10, 0, rates),
        Group("pg3", 10, 0, np.append(rates[1:], 0.3)),
    ]


def test_the_table_is_aligned_and_steps_count_from_1() -> None:
    lines = table(groups()).splitlines()
    assert len(set(map(len, lines))) == 1
    assert lines[1].split() == ["<b>", "1,234,567", "0.0005", "0.1", "0.1", "1", "0"]
    assert lines[3].split()[-3:] == ["0.3", "50", "0.3"]


def test_the_page_shows_equal_groups_as_one_curve_in_a_browser(tmp_path: Path) -> None:
    page = schedule_page("Rates of <script>", [("run", "<i>")], ["a note"], groups(), lambda step: step // 10)
    assert "step 50, epoch 5" in page
    script = """(page, window) => ({
      legend: [...page.querySelectorAll(".legend li")].map(item => item.textContent),
      wide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
      strokes: [...page.querySelectorAll(".plot .curve")].map(path => window.getComputedStyle(path).stroke),
      heading: page.querySelector("h1").textContent,
    })"""
    seen = look(page, script, tmp_path, width=360)
    assert len(set(seen.pop("strokes"))) == 2
    assert seen == {"legend": ["<b>, pg2", "pg3"], "wide": 0, "heading": "Rates of <script>"}
