"""Write CIFAR-10 as image files, for data=cifar10 and data=cifar10_lt.

    python scripts/write_cifar10.py <folder> [--archive <folder>] [--download]

<folder>/train/<class>/0000.png to 4999.png and <folder>/test/<class>/0000.png to 0999.png: the number is the place of
the image among those of its class, in the order of the training batches or of the test batch. data=cifar10 expects the
folder DATA_DIR/cifar10. The images are read by torchvision from cifar-10-python.tar.gz, unpacked or not, in the folder
of --archive; --download downloads it there (https://www.cs.toronto.edu/~kriz/cifar.html, 170 MB).
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import torchvision
from PIL import Image


def write(folder: Path, archive: Path, download: bool) -> None:
    """Write both splits; an image that is there already is written again."""
    for split in ("train", "test"):
        data = torchvision.datasets.CIFAR10(archive, train=split == "train", download=download)
        for name in data.classes:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        seen = Counter[int]()
        for pixels, label in zip(data.data, data.targets, strict=True):  # (32, 32, 3) uint8
            Image.fromarray(pixels).save(folder / split / data.classes[label] / f"{seen[label]:04d}.png")
            seen[label] += 1
        print(f"{folder / split}: {sum(seen.values())} images")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, help="of the image files")
    options.add_argument("--archive", type=Path, default=Path("."), help="the folder of cifar-10-python.tar.gz")
    options.add_argument("--download", action="store_true", help="download the archive if it is not there")
    return options


def main() -> None:
    """Write and print the numbers of images."""
    given = parser().parse_args()
    others = [file for file in given.folder.glob("*/*/*") if file.suffix != ".png"]
    if others:
        sys.exit(f"{given.folder} has other images, such as {others[0]}: name an empty folder")
    try:
        write(given.folder, given.archive, given.download)
    except RuntimeError as error:  # torchvision's, if the archive is missing or damaged
        sys.exit(
            f"{given.archive} has no complete cifar-10-python.tar.gz ({error})\n"
            "--archive <folder> names its folder, --download downloads it"
        )


if __name__ == "__main__":
    main()
