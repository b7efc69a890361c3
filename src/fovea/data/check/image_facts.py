"""Reads every image of a dataset once, in several processes, and keeps what the checks compare."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fovea.data.check.difference_hash import COLUMNS, ROWS, gray_copy
from fovea.data.index import Index
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop, View
from fovea.data.pixels.decode import UnreadableImage, too_large
from fovea.data.pixels.header import read_header
from fovea.data.pixels.jpeg import as_jpeg, decode_view
from fovea.data.store.pack_workers import count_image, run_jobs, shared_object

CHUNK = 64  # images of a job
NO_CROP = Augment(CenterCrop(1, 1))  # images are read whole
DECODED = 32  # pixels; a JPEG is decoded at a reduced size that is at least twice this


class Facts(NamedTuple):
    """What is kept of one image.

    Attributes:
        digest: 8 bytes of the BLAKE2b of the file, or of the pixels in a store of pixels.
        height, width: of the upright image; 0 if it is unreadable.
        gray: (ROWS, COLUMNS) uint8, see `difference_hash`; zeros if it is unreadable.
        error: why the image is unreadable or damaged, else empty.
    """

    digest: bytes
    height: int
    width: int
    gray: np.ndarray
    error: str


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """The facts of N images, split after split in the order of `splits`.

    Attributes:
        splits: the name of each split and its index.
        digests: (N,) uint64, see `Facts`.
        sizes: (N, 2) int32, heights and widths.
        grays: (N, ROWS, COLUMNS) uint8.
        errors: number of an image -> why it is unreadable or damaged.
    """

    splits: Mapping[str, Index]
    digests: np.ndarray
    sizes: np.ndarray
    grays: np.ndarray
    errors: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def readable(self) -> np.ndarray:
        """(N,) bool; damaged images count as readable."""
        return self.sizes[:, 0] > 0

    def place(self, number: int) -> tuple[str, str]:
        """Return an image's split and path."""
        for split, index in self.splits.items():
            if number < len(index):
                return split, index.paths[number]
            number -= len(index)
        raise IndexError(number)

    @property
    def split_numbers(self) -> np.ndarray:
        """(N,) int8, each image's split as a position in `splits`."""
        return np.repeat(np.arange(len(self.splits), dtype=np.int8), [len(index) for index in self.splits.values()])


class Work(NamedTuple):
    """A job: some neighbouring images of a split."""

    split: int
    first: int
    last: int


def gather_facts(
    splits: Mapping[str, Index], background: Sequence[int], processes: int, report: Callable[[int], None]
) -> ImageFacts:
    """Read and decode all images.

    Args:
        splits: different indices.
        background: the color behind transparent pixels.
        processes: 0 reads in this process.
        report: called with the number of images that were read so far.

    Raises:
        ValueError: a process was killed, or a part of a store is damaged.
    """
    datasets = [ImageDataset(index, NO_CROP, background=background) for index in splits.values()]
    starts = np.cumsum([0, *map(len, datasets)])
    count = int(starts[-1])
    digests, sizes = np.zeros(count, np.uint64), np.zeros((count, 2), np.int32)
    grays, errors = np.zeros((count, ROWS, COLUMNS), np.uint8), dict[int, str]()
    for work, columns in run_jobs(_facts_of, _jobs(datasets), processes, report, datasets):
        place = slice(starts[work.split] + work.first, starts[work.split] + work.last)
        digests[place], sizes[place], grays[place], found = columns
        errors |= {int(starts[work.split]) + position: error for position, error in found.items()}
    return ImageFacts(splits, digests, sizes, grays, dict(sorted(errors.items())))


def _jobs(datasets: Sequence[ImageDataset]) -> Iterator[Work]:
    for split, dataset in enumerate(datasets):
        for first in range(0, len(dataset), CHUNK):
            yield Work(split, first, min(first + CHUNK, len(dataset)))


def _facts_of(work: Work) -> tuple[Work, tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]]:
    """Return the columns of a job's images, which are smaller to send than a tuple for each image."""
    dataset, facts = shared_object()[work.split], []
    for position in range(work.first, work.last):
        facts.append(_read(dataset, position))
        count_image()
    digests = np.frombuffer(b"".join(fact.digest for fact in facts), "<u8")
    sizes = np.array([(fact.height, fact.width) for fact in facts], np.int32)
    errors = {work.first + n: fact.error for n, fact in enumerate(facts) if fact.error}
    return work, (digests, sizes, np.stack([fact.gray for fact in facts]), errors)


def _read(dataset: ImageDataset, position: int) -> Facts:
    digest, gray = bytes(8), np.zeros((ROWS, COLUMNS), np.uint8)
    try:
        data = dataset.read(position)
        digest = hashlib.blake2b(_bytes(data), digest_size=8).digest()
        pixels, (height, width), error = _decode(dataset, position, data)
        return Facts(digest, height, width, gray_copy(pixels), error)
    except UnreadableImage as unreadable:
        return Facts(digest, 0, 0, gray, str(unreadable))


def _decode(
    dataset: ImageDataset, position: int, data: bytes | memoryview | Tensor
) -> tuple[Tensor, tuple[int, int], str]:
    """Return pixels (3, H', W'), the whole image's height and width, and the damage that a decoder passed over.

    As in a training, a JPEG that libjpeg-turbo finds damaged is decoded again by decoders that repair some damage.
    """
    if isinstance(data, Tensor):
        return data, (data.shape[1], data.shape[2]), ""
    header = read_header(data)
    jpeg = as_jpeg(data, header) if header and not too_large(header.pixels) else None
    damage = ""
    if jpeg is not None:
        whole = View(0, 0, jpeg.height, jpeg.width, DECODED, DECODED, 0, 0, flip=False)
        try:
            return decode_view(jpeg, whole, draft=2)[0], (jpeg.height, jpeg.width), ""
        except ValueError as error:
            damage = f"{dataset.index.paths[position]}: {error}"
    pixels = dataset.decode(position, data)
    return pixels, (pixels.shape[1], pixels.shape[2]), damage


def _bytes(data: bytes | memoryview | Tensor) -> bytes | memoryview:
    return data.permute(1, 2, 0).contiguous().numpy().data if isinstance(data, Tensor) else data
