"""Give the project a name of your own: `python scripts/rename.py <name>`.

Renames the package src/<old name> and every mention of it, in code, configs, tests, documentation and build files. The
licence and the change log keep the old name, as do web addresses. Needs nothing but Python; where ruff is installed,
imports are sorted and lines are wrapped anew.
"""

import argparse
import ast
import functools
import importlib.util
import keyword
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
KEPT = ("LICENSE", "CITATION.cff", "CHANGELOG.md")  # they say whose work it was
SKIPPED = {".git", ".venv", "runs", "data", "__pycache__"}  # where there is no git to say what belongs to the project


def main() -> None:
    """Check, rename, and say what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="lower-case letters, digits and underscores")
    name = parser.parse_args().name
    old = package(PROJECT)
    if name == old:
        print(f"the project is called {name} already")
        return
    why_not = refusal(name, PROJECT) or unsaved(PROJECT)
    if why_not:
        raise SystemExit(f"error: {why_not}")
    changed = rename(PROJECT, old, name)
    print(f"{old} is now {name}: {changed} files changed, and src/{old} moved to src/{name}")
    tidy(PROJECT)
    print(
        f"Next: make test. Runs that were trained as {old} name it in their config.yaml: this project can't read them"
    )


def package(project: Path) -> str:
    """The name that the project has now."""
    (init,) = (project / "src").glob("*/__init__.py")
    return init.parent.name


def refusal(name: str, project: Path) -> str | None:
    """Why the project can't have that name, or None."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return f"{name!r} is no name for a package: lower-case letters, digits and underscores, a letter first"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"{name} is a keyword of Python"
    if name in sys.stdlib_module_names:
        return f"{name} is a module of Python's standard library"
    if importlib.util.find_spec(name):
        return f"{name} is a package that is installed here"
    if name in imported(project) or (project / name).exists():
        return f"{name} is something else in this project: a folder, a program, or a module that it imports"
    return None


@functools.cache
def imported(project: Path) -> set[str]:
    """Top-level names of all modules that the project has beside its package, and of all that it imports."""
    names = set()
    for file in [*project.glob("src/**/*.py"), *project.glob("scripts/*.py"), *project.glob("tests/**/*.py")]:
        names.add(file.stem)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names


def unsaved(project: Path) -> str | None:
    """Why the renaming could not be undone by git, or None."""
    if not has_git(project) or not git(project, "status", "--porcelain", "--untracked-files=no"):
        return None
    return "there are changes that are not committed: commit them, so that `git reset --hard` can undo the renaming"


def has_git(project: Path) -> bool:
    """Whether the project is a git repository of its own; a download without one has no history to go back to."""
    return (project / ".git").exists() and shutil.which("git") is not None


def git(project: Path, *words: str) -> str:
    """The output of a git command."""
    return subprocess.run(["git", *words], cwd=project, check=True, capture_output=True, text=True).stdout


def files(project: Path) -> Iterator[Path]:
    """What belongs to the project: tracked by git or not ignored by it."""
    if has_git(project):
        listed = git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        yield from (project / name for name in dict.fromkeys(listed) if name and (project / name).is_file())
        return
    for folder, folders, names in os.walk(project):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.endswith("_cache")]
        yield from (Path(folder, name) for name in names)


def rename(project: Path, old: str, new: str) -> int:
    """Change every file and move the package; says how many files were changed."""
    changed = 0
    for file in [*files(project)]:
        if file.name in KEPT or file.is_symlink():
            continue
        try:
            text = file.read_bytes().decode("utf-8")  # read_text would change line ends
        except UnicodeDecodeError:
            continue
        renamed = with_name(text, old, new)
        if renamed != text:
            file.write_bytes(renamed.encode("utf-8"))
            changed += 1
    (project / "src" / old).rename(project / "src" / new)
    return changed


def with_name(text: str, old: str, new: str) -> str:
    """The text with the name replaced as a whole word, in its own case; web addresses stay."""
    cases = {old: new, old.upper(): new.upper(), class_name(old): class_name(new)}
    words = "|".join(map(re.escape, cases))
    begins = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"  # the n of a line break in a string is no part of the word
    pattern = rf"https?://\S+|{begins}(?:{words})(?![A-Za-z0-9])"
    return re.sub(pattern, lambda found: cases.get(found[0], found[0]), text)


def class_name(name: str) -> str:
    """The name as that of a class: my_lab is MyLab."""
    return "".join(part.capitalize() for part in name.split("_"))


def tidy(project: Path) -> None:
    """Sort imports and wrap lines again, for both depend on the name."""
    places = [str(project / ".venv" / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    ruff = shutil.which("ruff", path=os.pathsep.join(places))
    if ruff is None:
        print("ruff is not installed here: `ruff check --fix . && ruff format .` will sort the imports anew")
        return
    # what can't be wrapped, such as a text with a longer name in it, may stay too long
    for words in (["check", "--fix"], ["format"], ["check", "--select", "E501", "--add-noqa"]):
        subprocess.run([ruff, *words, "--quiet", "."], cwd=project, check=False)


if __name__ == "__main__":
    main()
