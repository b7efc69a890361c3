"""The page that shows a dataset, as text and in a browser."""

import re
from pathlib import Path

import pytest
import torch
from browser import look

from fovea.report.browse_page import MOST_BYTES, AugmentedView, Picture, SplitView, browse_page

NASTY = "<img src=x onerror=window.attacked=1>&\"'{{ 7 * 7 }} été " + "x" * 200


def pixels(height: int = 40, width: int = 60) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8)


def page(classes: int, pictures: int = 5, side: int = 60) -> str:
    names = [f"class {k} of a longer name" for k in range(classes)]
    names[0] = NASTY
    shown = [Picture(f"folder/{NASTY}/{n}.png", names[n % classes], pixels(40, side)) for n in range(pictures)]
    sizes = torch.randint(100, 900, (50, 2))
    counts = [max(1, 1000 // (k + 1)) for k in range(classes)]
    splits = [
        SplitView("train", sum(counts), shown, [], sizes, counts),
        SplitView("val", classes, shown[:2], [f"{NASTY}.jpg"], sizes[:0], [1] * classes),
    ]
    augmented = [AugmentedView(picture, pixels(), [pixels()] * 3) for picture in shown[:2]]
    return browse_page(f"Images of {NASTY}", "multiclass", [("classes", NASTY)], names, splits, augmented)


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_the_page_needs_no_other_file_and_shows_names_as_text(classes: int) -> None:
    text = page(classes)
    assert "<img src=x" not in text
    assert "{{ 7 * 7 }}" in text
    sources = re.findall(r'(?:src|href)="([^"]{5})', text)
    assert sources.count("data:") == 5 + 2 + 2 * 5 + 1  # pictures, augmented images, the icon
    assert {source[0] for source in sources} == {"d", "#"}
    assert len(text) < 1_000_000


def test_the_bars_are_shares_of_each_split_on_one_scale() -> None:
    sizes = torch.tensor([[10, 20]])
    splits = [SplitView("train", 400, [], [], sizes, [300, 100]), SplitView("val", 10, [], [], sizes, [5, 5])]
    text = browse_page("x", "multiclass", [], ["a", "b"], splits, [])
    cells = re.findall(r'--share:([\d.]+)%" title="([\d.]+) %">([\d,]+)', text)
    assert cells == [("100", "75", "300"), ("66.67", "50", "5"), ("33.33", "25", "100"), ("66.67", "50", "5")]
    assert "10 to" not in text
    assert "always 20" in text


def test_many_classes_are_ordered_and_the_rarest_ones_are_shown() -> None:
    counts = [5, 1, *range(10, 210)]
    names = [f"name{k}" for k in range(len(counts))]
    split = SplitView("train", sum(counts), [], [], torch.empty(0, 2), counts)
    text = browse_page("x", "multiclass", [], names, [split], [])
    shown = re.findall(r'<td class="name">(name\d+)', text)
    assert shown[:15] == [f"name{k}" for k in range(201, 186, -1)]
    assert shown[28:30] == ["name0", "name1"]
    assert len(shown) == 15 + 15 + len(names)


@pytest.mark.slow
def test_many_images_fit_into_the_pages_limit() -> None:
    many = [Picture("p", "a", pixels(128, 128)) for _ in range(600)]
    text = browse_page("x", "multiclass", [], ["a"], [SplitView("train", 600, many, [], torch.ones(1, 2), [600])], [])
    assert len(text) < 1.1 * MOST_BYTES


LOOK = """(page, window) => ({
  wide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
  broken: [...page.images].filter(image => !image.naturalWidth).length,
  images: page.images.length,
  attacked: window.attacked || 0,
  loaded: window.performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:")).length,
  background: window.getComputedStyle(page.body).backgroundColor,
  heading: page.querySelector("h1").textContent,
  bars: [...page.querySelectorAll("td.share")].slice(0, 2).map(cell => window.getComputedStyle(cell).backgroundSize),
})"""


@pytest.mark.parametrize(
    ("classes", "width", "dark", "background"),
    [(1000, 360, True, "rgb(21, 24, 28)"), pytest.param(2, 1200, False, "rgb(255, 255, 255)", marks=pytest.mark.slow)],
)
def test_a_browser_shows_every_image_and_no_line_is_wider_than_a_phone(
    tmp_path: Path, classes: int, width: int, dark: bool, background: str
) -> None:
    seen = look(page(classes), LOOK, tmp_path, width, dark)
    assert seen.pop("bars")[0].startswith("100%")
    assert seen == {
        "wide": 0,
        "broken": 0,
        "images": 17,
        "attacked": 0,
        "loaded": 0,
        "background": background,
        "heading": f"Images of {NASTY}",
    }
