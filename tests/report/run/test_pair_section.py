"""Two runs on the same test images: which images only one of them has right."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from run_files import predictions
from torchmetrics.classification import MulticlassAccuracy

from fovea.report import page
from fovea.report.errors import wrong
from fovea.report.prediction_file import Predictions
from fovea.report.run import comparison
from fovea.report.run.pair_section import Tested, pair_section, pair_text

METRICS = {"accuracy": MulticlassAccuracy(5, average="micro")}


def two(task: Literal["multiclass", "multilabel"] = "multiclass") -> tuple[Predictions, Predictions]:
    """Return two runs' predictions of the same images; the second has them in another folder and order."""
    both = predictions(task, 5, 60)
    noise = torch.rand(2, *both.probabilities.shape, generator=torch.Generator().manual_seed(0))
    one, other = (replace(both, probabilities=torch.where(n > 0.8, n, both.probabilities)) for n in noise)
    moved = replace(other, paths=[path.replace("/data/", "/elsewhere/") for path in other.paths])
    return one, moved.take(list(range(59, -1, -1)))


def section_of(one: Predictions, other: Predictions, small: dict[str, bytes]) -> tuple[dict, dict]:
    metrics = METRICS if one.task == "multiclass" else {}
    against = comparison.compare("b", one, other, metrics)
    return pair_section([Tested("a", one, small), Tested("b", other, {})], against)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_lists_name_the_images_that_only_one_run_has_right(task: Literal["multiclass", "multilabel"]) -> None:
    one, other = two(task)
    section, _ = section_of(one, other, {})
    ours = {path.split("/")[-1] for path, bad in zip(one.paths, wrong(one), strict=True) if not bad}
    theirs = {path.split("/")[-1] for path, bad in zip(other.paths, wrong(other), strict=True) if not bad}
    listed = [{file.split("/")[-1] for file in entry["files"]} for entry in section["lists"]]
    assert listed == [ours - theirs, theirs - ours]
    assert [entry["count"] for entry in section["lists"]] == [len(ours - theirs), len(theirs - ours)]
    assert (section["both_right"], section["both_wrong"]) == (len(ours & theirs), 60 - len(ours | theirs))
    assert listed[0]
    assert listed[1]


def test_the_figures_are_those_of_the_two_runs() -> None:
    one, other = two()
    (figure,) = section_of(one, other, {})[0]["figures"]
    accuracies = [(~wrong(run)).float().mean() for run in (one, other)]
    assert figure["values"] == [f"{value:.4f}" for value in accuracies]
    assert figure["difference"].startswith(f"{accuracies[0] - accuracies[1]:+.4f} (")


def test_thumbnails_of_either_run_are_shown_with_both_predictions() -> None:
    one, other = two()
    section, shown = section_of(one, other, {f"test/{row}": bytes([row]) for row in range(60)})
    row = section["lists"][0]["rows"][0]
    image = shown["images"][str(row)]
    assert image["path"].endswith(one.paths[row].rpartition("/")[2])
    best = int(one.probabilities[row].argmax())
    assert image["lines"][1] == (f"a: {one.class_names[best]} {one.probabilities[row, best]:.2f}", "good")
    assert image["lines"][2][1] == "bad"
    from_other = pair_section(
        [Tested("a", one, {}), Tested("b", other, {f"test/{59 - row}": b"x"})],
        comparison.compare("b", one, other, METRICS),
    )[1]
    assert list(from_other["thumbnails"]) == [str(row)]  # the second run has the images in the opposite order


def test_the_most_certain_mistake_of_the_other_run_is_first() -> None:
    one, other = two()
    files = section_of(one, other, {})[0]["lists"][0]["files"]
    sure = {path.rpartition("/")[2]: float(p.max()) for path, p in zip(other.paths, other.probabilities, strict=True)}
    certainties = [sure[file.rpartition("/")[2]] for file in files]
    assert certainties == sorted(certainties, reverse=True)


def test_the_text_has_the_same_counts() -> None:
    section, _ = section_of(*two(), {})
    text = pair_text(section)
    assert f"only a is right on {section['lists'][0]['count']}, only b on {section['lists'][1]['count']}" in text


def test_other_images_are_refused() -> None:
    one, other = two()
    with pytest.raises(ValueError, match="different images"):
        section_of(one, other.take(list(range(30))), {})
    changed = replace(other, labels=torch.roll(other.labels, 1))
    with pytest.raises(ValueError, match="labels of"):
        section_of(one, changed, {})


def test_a_single_image_is_counted_in_the_singular() -> None:
    one, other = two()
    section, _ = section_of(one, other, {})
    counts = [1, 2]
    lists = [entry | {"count": count} for entry, count in zip(section["lists"], counts, strict=True)]
    text = page.render("pair.html", section=section | {"lists": lists})
    assert "Only a is right: 1 image<" in text
    assert "Only b is right: 2 images<" in text
