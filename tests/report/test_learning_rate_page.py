import re

import numpy as np

from fovea.report.charts import HEIGHT, WIDTH
from fovea.report.learning_rate_page import learning_rate_page


def test_a_mark_stands_at_the_rate_of_its_place_on_the_logarithmic_axis() -> None:
    rates, means = np.geomspace(1e-4, 1, 9), np.array([4.0, 3, 2, 1.5, 1, 2, 4, 8, 100])
    page = learning_rate_page("Test", [("steps", "9")], rates, means + 0.1, means, [("least", 1e-2), ("out", 50.0)])
    places = [float(place) for place in re.findall(rf'd="M([\d.]+) 0V{HEIGHT}"', page)]
    assert places == [WIDTH / 2, WIDTH]
    assert "least: 0.01" in page
    levels = re.findall(r"<span>([\d.]+)</span>", page)
    assert levels[:3] == ["4.45", "2.5", "0.55"]  # 15 % beyond the losses up to the minimum; later ones are cut off
    assert levels[3:6] == ["0.0001", "0.01", "1"]
