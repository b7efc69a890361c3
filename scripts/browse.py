"""Show a dataset on one HTML page: `python scripts/browse.py data=folder data.root=<folder>`."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig

from fovea.runs.summary import short_path

if TYPE_CHECKING:
    from fovea.data.index import Index
    from fovea.data.loading.datamodule import ImageDataModule
    from fovea.report.browse_page import AugmentedView, SplitView

log = logging.getLogger(__name__)
SIDE = 128  # pixels; larger images are shrunk for the page


@entry("browse")
def main(cfg: DictConfig) -> None:
    """Write the page."""
    output = Path(cfg.output)
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ValueError(f"output={output}: give a file that ends in .html")
    from fovea import build
    from fovea.data.index import distinct
    from fovea.report.browse_page import browse_page
    from fovea.report.page import save

    data = build.datamodule(cfg, to_train=False)
    splits = [split_view(cfg, data, name, index) for name, index in distinct(data.splits).items()]
    title = f"Images of {short_path(cfg.data.store or cfg.data.root or cfg.data.read._target_)}"
    page = browse_page(title, data.task, facts(cfg, data), data.class_names, splits, augmented_views(cfg, data))
    save(output, page)
    log.info(
        "%d images of %s: %s", sum(len(s.pictures) for s in splits), title.partition(" of ")[2], short_path(output)
    )


def facts(cfg: DictConfig, data: "ImageDataModule") -> list[tuple[str, str]]:
    """Return the table at the top of the page."""
    from fovea.data.index import distinct

    counts = ", ".join(f"{len(index):,} {name}" for name, index in distinct(data.splits).items())
    same = [name for name in data.splits if name not in distinct(data.splits)]
    kind = "one label for each image" if data.task == "multiclass" else "several labels for each image"
    return [
        ("images", counts + "".join(f"; {name} is one of these" for name in same)),
        ("classes", f"{data.num_classes:,}; {kind}"),
        ("augmentation in training", describe(data.augment["train"].crop, *data.augment["train"].transforms)),
        ("in an evaluation", describe(data.augment["eval"].crop, *data.augment["eval"].transforms)),
        ("input of the network", f"{cfg.data.image_size} x {cfg.data.image_size} pixels"),
    ]


def describe(*parts: object) -> str:
    """Name the classes of the parts of an augmentation."""
    return ", then ".join(type(part).__name__ for part in parts)


def split_view(cfg: DictConfig, data: "ImageDataModule", name: str, index: "Index") -> "SplitView":
    """Read some images of a split, and the sizes of more."""
    from fovea.data.class_names import describe_label
    from fovea.data.fingerprint import relative
    from fovea.data.index import class_counts
    from fovea.data.loading import samples
    from fovea.data.loading.dataset import ImageDataset
    from fovea.report.browse_page import Picture, SplitView

    dataset = ImageDataset(index, data.augment["eval"], data.seed, "skip", data.background)
    names, pictures, unreadable = relative(index.paths, data.root), [], []
    for position in samples.choose(index.targets, cfg.samples, cfg.seed):
        label = describe_label(data.task, data.class_names, index.targets[position].reshape(-1).tolist())
        pixels = samples.whole(dataset, position, SIDE)
        if pixels is None:
            unreadable.append(names[position])
        else:
            pictures.append(Picture(names[position], label, pixels))
    sizes = samples.sizes(dataset, samples.choose_any(len(index), cfg.measured, cfg.seed))
    counts = class_counts(index.targets, data.num_classes)["present"]
    return SplitView(name, len(index), pictures, unreadable, sizes, counts)


def augmented_views(cfg: DictConfig, data: "ImageDataModule") -> list["AugmentedView"]:
    """Read some training images whole, as they are evaluated, and as a training gets them in its first epochs."""
    from fovea.data.class_names import describe_label
    from fovea.data.fingerprint import relative
    from fovea.data.loading import samples
    from fovea.data.loading.dataset import ImageDataset
    from fovea.report.browse_page import AugmentedView, Picture

    if "train" not in data.splits:
        return []
    index, views = data.splits["train"], []
    evaluated, trained = (
        ImageDataset(index, data.augment[name], data.seed, "skip", data.background) for name in ("eval", "train")
    )
    for position in samples.choose(index.targets, cfg.augmented, cfg.seed):
        whole = samples.whole(trained, position, SIDE)
        if whole is not None:
            label = describe_label(data.task, data.class_names, index.targets[position].reshape(-1).tolist())
            picture = Picture(relative(index.paths, data.root)[position], label, whole)
            (cropped,) = samples.as_trained(evaluated, position, 1, SIDE)
            views.append(AugmentedView(picture, cropped, samples.as_trained(trained, position, cfg.epochs, SIDE)))
    return views


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped: no page was written", file=sys.stderr)
        raise SystemExit(130) from None
