import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_folder

from fovea.data.fingerprint import compare, fingerprint, record, relative
from fovea.data.index import Index
from fovea.data.sources.folder import read_folder
from fovea.data.store.encode import Format
from fovea.data.store.pack import Source, pack
from fovea.data.store.store import read_store
from fovea.data.string_array import StringArray


def splits(root: str, *names: str) -> dict[str, Index]:
    paths = StringArray.of([f"{root}/{name}" for name in names], f"{root}/")
    return {"train": Index(paths, torch.arange(len(names)))}


def test_the_fingerprint_does_not_depend_on_the_root_folder() -> None:
    one, other = (fingerprint(["x", "y"], splits(root, "a.png", "é b.png"), root) for root in ("/data", "/mnt/copy"))
    assert one == other
    assert len(one) == 16
    below = splits("", "a.png", "é b.png")["train"]
    names = Index(relative(below.paths, "/"), below.targets)
    assert fingerprint(["x", "y"], {"train": names}, None) == one


def test_the_fingerprint_does_not_depend_on_how_the_names_are_stored() -> None:
    whole = splits("/data", "a.png", "b.png", "c.png")["train"]
    plain = Index([f"/data/{n}.png" for n in "abc"], torch.arange(3))
    taken = splits("/data", "c.png", "a.png", "b.png")["train"].take(torch.tensor([1, 2, 0]))
    taken.targets = whole.targets
    assert len({fingerprint(["x"], {"train": index}, "/data") for index in (whole, plain, taken)}) == 1


def test_another_name_order_label_class_or_split_changes_the_fingerprint() -> None:
    base = splits("/d", "a", "bc")
    seen = [
        fingerprint(["x", "y"], base, "/d"),
        fingerprint(["x", "z"], base, "/d"),
        fingerprint(["x", "y"], splits("/d", "ab", "c"), "/d"),
        fingerprint(["x", "y"], splits("/d", "bc", "a"), "/d"),
        fingerprint(["x", "y"], {"val": base["train"]}, "/d"),
        fingerprint(["x", "y"], {"train": Index(base["train"].paths, torch.tensor([1, 0]))}, "/d"),
        fingerprint(["x", "y"], {"train": base["train"].take(torch.tensor([0]))}, "/d"),
    ]
    assert len(set(seen)) == len(seen)


def test_relative_handles_names_outside_the_root_and_a_home_folder() -> None:
    assert relative(StringArray.of(["/d/a", "/elsewhere/b"]), "/d") == ["a", "/elsewhere/b"]
    assert relative(StringArray.of([str(Path.home() / "d" / "a")]), "~/d/") == ["a"]
    assert relative(StringArray.of(["/d/a"], "/d/"), None) == ["/d/a"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data" / "train", images=3).parent


def read(root: Path) -> dict[str, Any]:
    data = read_folder(root)
    train, val = data.train.take(torch.arange(6)), data.train.take(torch.arange(6, 9))
    return record(data.class_names, {"train": train, "val": val, "test": val}, str(root))


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    found = compare(old, new)
    return "nothing" if found is None else found.text


def test_a_copy_of_the_files_does_not_differ_although_its_times_do(images: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(images, tmp_path / "copy", copy_function=shutil.copyfile))
    old, new = read(images), read(copy)
    assert old["times"] != new["times"]
    assert difference(old, new) == "nothing"


def test_a_file_changed_added_or_removed_is_noticed(images: Path) -> None:
    old, file = read(images), images / "train" / "cat" / "1.png"
    content, state = file.read_bytes(), file.stat()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # as if nothing had happened
    assert difference(old, read(images)) == "the contents of the image files changed"
    file.write_bytes(content + b"x")
    assert difference(old, read(images)) == "the sizes of the image files changed"
    file.write_bytes(content)
    assert difference(old, read(images)) == "nothing"
    file.rename(file.with_name("9.png"))
    assert difference(old, read(images)) == "other images, labels or classes, but the same number of images"


def test_the_split_that_has_more_or_fewer_images_is_named() -> None:
    old, new = ({"counts": {"train": n, "val": 5}, "images": str(n)} for n in (1200, 1201))
    assert difference(old, new) == "the train images: 1,200 then, 1,201 now"


def test_contents_of_large_data_are_not_read_and_a_difference_in_times_is_uncertain(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.data.fingerprint.MAX_BYTES", 100)
    old = read(images)
    assert old["contents"] is None
    assert difference(old, read(images)) == "nothing"
    os.utime(images / "train" / "cat" / "1.png", ns=(1, 1))
    found = compare(old, read(images))
    assert found is not None
    assert not found.certain
    assert "times" in found.text


def test_a_store_of_unchanged_files_does_not_differ_from_the_files(images: Path, tmp_path: Path) -> None:
    data = read_folder(images)
    splits = {"train": data.train.take(torch.arange(6)), "val": data.train.take(torch.arange(6, 9))}
    splits["test"] = splits["val"]
    source = Source("multiclass", data.class_names, splits, str(images))
    for kind in ("files", "raw"):
        pack(source, Format(kind), tmp_path / kind, 1, lambda what, done, of: None)
    stores = [read_store(str(tmp_path / kind)) for kind in ("files", "raw")]
    records = [record(s.class_names, {"train": s.train, "val": s.val, "test": s.test}, None) for s in stores]
    assert difference(read(images), records[0]) == "nothing"
    assert records[0] | {"times": None} == read(images) | {"times": None}
    assert difference(read(images), records[1]) == "the sizes of the image files changed"


def test_a_pipe_in_place_of_an_image_does_not_block(images: Path) -> None:
    old, file = read(images), images / "train" / "cat" / "1.png"
    file.unlink()
    os.mkfifo(file)
    assert difference(old, read(images)) == "the sizes of the image files changed"


def test_keys_that_an_old_record_lacks_are_not_compared(images: Path) -> None:
    new = read(images)
    assert difference({"images": new["images"]}, new) == "nothing"
    assert difference({"images": "0" * 16}, new) == "other images, labels or classes, but the same number of images"


def test_corrections_are_the_reason_of_a_difference_and_none_by_themselves() -> None:
    files = dict.fromkeys(("bytes", "contents", "times"), "")
    old, new = (files | {"counts": {}, "images": str(n), "corrections": {"digest": str(n)}} for n in (1, 2))
    assert difference(old, new).endswith("the same number of images; data.corrections has changed")
    assert difference(old, old | {"corrections": None}) == "nothing"
    assert difference(old | {"corrections": None}, new).endswith("data.corrections has changed")
    assert difference({"images": "1"}, new).endswith("the same number of images")  # a run from before corrections
