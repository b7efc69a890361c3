"""Give the project a name of your own: `python scripts/rename.py <name>`.

Renames the package src/<old name> and every mention of it in code, configs, tests, documentation and build files. The
licence, the citation file, the change log and web addresses keep the old name. Needs only Python; if ruff is installed,
it sorts imports and wraps lines again.
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
KEPT = ("LICENSE", "CITATION.cff", "CHANGELOG.md")  # they credit the original project
SKIPPED = {".git", ".venv", "runs", "data", "__pycache__"}  # skipped if there is no git to list the project's files


def main() -> None:
    """Check the name, rename the project and print the next steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="lower-case letters, digits and underscores")
    name = parser.parse_args().name
    old = package(PROJECT)
    if name == old:
        print(f"the project is already called {name}")
        return
    reason = refusal(name, PROJECT) or uncommitted(PROJECT)
    if reason:
        raise SystemExit(f"error: {reason}")
    changed = rename(PROJECT, old, name)
    print(f"{old} is now {name}: {changed} files changed, and src/{old} moved to src/{name}")
    tidy(PROJECT)
    print(f"Next: make test. Runs that were trained as {old} have this name in their config.yaml and can't be read now")


def package(project: Path) -> str:
    """Return the project's current name."""
    (init,) = (project / "src").glob("*/__init__.py")
    return init.parent.name


def refusal(name: str, project: Path) -> str | None:
    """Return why the project can't have that name, or None."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return f"{name!r} is not a package name: use lower-case letters, digits and underscores, a letter first"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"{name} is a keyword of Python"
    if name in sys.stdlib_module_names:
        return f"{name} is a module of Python's standard library"
    if importlib.util.find_spec(name):
        return f"{name} is a package that is installed here"
    if name in imported(project) or (project / name).exists():
        return f"{name} is already used in this project: as a folder, a program, or a module that it imports"
    return None


@functools.cache
def imported(project: Path) -> set[str]:
    """Return the names of the project's modules, and the top-level names of all modules that they import."""
    names = set()
    for file in [*project.glob("src/**/*.py"), *project.glob("scripts/*.py"), *project.glob("tests/**/*.py")]:
        names.add(file.stem)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names


def uncommitted(project: Path) -> str | None:
    """Return why git could not undo the renaming, or None."""
    if not has_git(project) or not git(project, "status", "--porcelain", "--untracked-files=no"):
        return None
    return "there are uncommitted changes: commit them, so that `git reset --hard` can undo the renaming"


def has_git(project: Path) -> bool:
    """Whether the project folder is a git repository; a download without git has no history."""
    return (project / ".git").exists() and shutil.which("git") is not None


def git(project: Path, *words: str) -> str:
    """Run a git command and return its output."""
    return subprocess.run(["git", *words], cwd=project, check=True, capture_output=True, text=True).stdout


def files(project: Path) -> Iterator[Path]:
    """Yield the project's files: those tracked by git or not ignored by it."""
    if has_git(project):
        listed = git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        yield from (project / name for name in dict.fromkeys(listed) if name and (project / name).is_file())
        return
    for folder, folders, names in os.walk(project):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.endswith("_cache")]
        yield from (Path(folder, name) for name in names)


def rename(project: Path, old: str, new: str) -> int:
    """Change every file, move the package and return the number of changed files."""
    changed = 0
    for file in [*files(project)]:
        if file.name in KEPT or file.is_symlink():
            continue
        try:
            text = file.read_bytes().decode("utf-8")  # read_text would change line endings
        except UnicodeDecodeError:
            continue
        renamed = with_name(text, old, new)
        if renamed != text:
            file.write_bytes(renamed.encode("utf-8"))
            changed += 1
    (project / "src" / old).rename(project / "src" / new)
    return changed


def with_name(text: str, old: str, new: str) -> str:
    """Replace the name where it is a whole word, in lower, upper or class case; web addresses stay."""
    cases = {old: new, old.upper(): new.upper(), class_name(old): class_name(new)}
    words = "|".join(map(re.escape, cases))
    begins = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"  # the n of an escaped \n is not a part of the word
    pattern = rf"https?://\S+|{begins}(?:{words})(?![A-Za-z0-9])"
    return re.sub(pattern, lambda found: cases.get(found[0], found[0]), text)


def class_name(name: str) -> str:
    """Return the name in class case: my_lab becomes MyLab."""
    return "".join(part.capitalize() for part in name.split("_"))


def tidy(project: Path) -> None:
    """Sort imports and wrap lines again, because both depend on the name."""
    places = [str(project / ".venv" / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    ruff = shutil.which("ruff", path=os.pathsep.join(places))
    if ruff is None:
        print("ruff is not installed here: to sort the imports again, run `ruff check --fix . && ruff format .`")
        return
    # lines that can't be wrapped, such as a long text with the name, get a noqa comment
    for words in (["check", "--fix"], ["format"], ["check", "--select", "E501", "--add-noqa"]):
        subprocess.run([ruff, *words, "--quiet", "."], cwd=project, check=False)


if __name__ == "__main__":
    main()
