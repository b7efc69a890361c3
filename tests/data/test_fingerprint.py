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


def test_it_is_the_same_wherever_the_images_lie() -> None:
    one, other = (fingerprint(["x", "y"], splits(root, "a.png", "é b.png"), root) for root in ("/data", "/mnt/copy"))
    assert one == other
    assert len(one) == 16
    below = splits("", "a.png", "é b.png")["train"]
    names = Index(relative(below.paths, "/"), below.targets)
    assert fingerprint(["x", "y"], {"train": names}, None) == one


def test_it_does_not_depend_on_how_the_names_are_held() -> None:
    whole = splits("/data", "a.png", "b.png", "c.png")["train"]
    plain = Index([f"/data/{n}.png" for n in "abc"], torch.arange(3))
    taken = splits("/data", "c.png", "a.png", "b.png")["train"].take(torch.tensor([1, 2, 0]))
    taken.targets = whole.targets
    assert len({fingerprint(["x"], {"train": index}, "/data") for index in (whole, plain, taken)}) == 1


def test_another_name_order_label_class_or_split_gives_another_one() -> None:
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


def test_names_elsewhere_and_a_home_folder_are_understood() -> None:
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


def said(then: dict[str, Any], now: dict[str, Any]) -> str:
    found = compare(then, now)
    return "nothing" if found is None else found.text


def test_a_copy_elsewhere_does_not_differ_though_its_times_do(images: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(images, tmp_path / "copy", copy_function=shutil.copyfile))
    then, now = read(images), read(copy)
    assert then["times"] != now["times"]
    assert said(then, now) == "nothing"


def test_a_file_changed_added_or_removed_is_noticed(images: Path) -> None:
    then, file = read(images), images / "train" / "cat" / "1.png"
    content, state = file.read_bytes(), file.stat()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # as if nothing had happened
    assert said(then, read(images)) == "the contents of the images' files changed"
    file.write_bytes(content + b"x")
    assert said(then, read(images)) == "the sizes of the images' files changed"
    file.write_bytes(content)
    assert said(then, read(images)) == "nothing"
    file.rename(file.with_name("9.png"))
    assert said(then, read(images)) == "other images, labels or classes, as many as before"


def test_the_split_that_has_more_or_fewer_images_is_named() -> None:
    then, now = ({"counts": {"train": n, "val": 5}, "images": str(n)} for n in (1200, 1201))
    assert said(then, now) == "the train images: 1,200 then, 1,201 now"


def test_of_much_data_only_sizes_and_times_are_known_and_times_are_no_proof(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.data.fingerprint.READ_AT_MOST", (100, 100))
    then = read(images)
    assert then["contents"] is None
    assert said(then, read(images)) == "nothing"
    os.utime(images / "train" / "cat" / "1.png", ns=(1, 1))
    found = compare(then, read(images))
    assert found is not None
    assert not found.certain
    assert "times" in found.text


def test_a_store_of_the_files_as_they_are_does_not_differ_from_them(images: Path, tmp_path: Path) -> None:
    data = read_folder(images)
    splits = {"train": data.train.take(torch.arange(6)), "val": data.train.take(torch.arange(6, 9))}
    splits["test"] = splits["val"]
    source = Source("multiclass", data.class_names, splits, str(images))
    for kind in ("files", "raw"):
        pack(source, Format(kind), tmp_path / kind, 1, lambda what, done, of: None)
    stores = [read_store(str(tmp_path / kind)) for kind in ("files", "raw")]
    records = [record(s.class_names, {"train": s.train, "val": s.val, "test": s.test}, None) for s in stores]
    assert said(read(images), records[0]) == "nothing"
    assert records[0] | {"times": None} == read(images) | {"times": None}
    assert said(read(images), records[1]) == "the sizes of the images' files changed"


def test_what_is_no_file_is_not_waited_for(images: Path) -> None:
    then, file = read(images), images / "train" / "cat" / "1.png"
    file.unlink()
    os.mkfifo(file)
    assert said(then, read(images)) == "the sizes of the images' files changed"


def test_a_record_that_has_less_is_compared_as_far_as_it_goes(images: Path) -> None:
    now = read(images)
    assert said({"images": now["images"]}, now) == "nothing"
    assert said({"images": "0" * 16}, now) == "other images, labels or classes, as many as before"
