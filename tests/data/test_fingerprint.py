from pathlib import Path

import torch

from fovea.data.fingerprint import fingerprint, relative
from fovea.data.index import Index
from fovea.data.strings import Strings


def splits(root: str, *names: str) -> dict[str, Index]:
    paths = Strings.of([f"{root}/{name}" for name in names], f"{root}/")
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
    assert relative(Strings.of(["/d/a", "/elsewhere/b"]), "/d") == ["a", "/elsewhere/b"]
    assert relative(Strings.of([str(Path.home() / "d" / "a")]), "~/d/") == ["a"]
    assert relative(Strings.of(["/d/a"], "/d/"), None) == ["/d/a"]
