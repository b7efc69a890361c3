"""What was typed: which yaml is composed with which overrides, and the saved run that the command is about."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType

from fovea.cli.paths import with_value
from fovea.config import resume_rules, saved, untrusted
from fovea.config.keys import rule
from fovea.config.resolvers import CONF

if TYPE_CHECKING:
    from fovea.config.check import Program


class Command(NamedTuple):
    """What Hydra composes.

    Attributes:
        config_name: the yaml in conf/.
        words: overrides, and Hydra's own switches.
        source: the run folder that values come from, if any.
    """

    config_name: "Program"
    words: list[str]
    source: untrusted.Source | None = None

    @property
    def has_switches(self) -> bool:
        """-m, --cfg job and the like."""
        return any(word.startswith("-") for word in self.words)

    @property
    def asks_for_help(self) -> bool:
        return not {"--help", "-h"}.isdisjoint(self.words)


def read_command(config_name: "Program", keys: Sequence[str], typed: list[str]) -> Command:
    """The command that was typed; a saved run that it names is put where the yaml finds it, as `run_config`.

    Args:
        config_name: the yaml, where no saved run has its own (resume.yaml, rerun.yaml).
        keys: that name a run folder: `resume`, `rerun` or `run`.
        typed: words in Hydra's grammar.

    Raises:
        ValueError: the saved run is missing, damaged, or can't be had with what else is typed.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        typed = [*typed, "hydra/job_logging=disabled"]
    words = [word for word in typed if word.startswith("~") or (not word.startswith("-") and "=" in word)]
    overrides = OverridesParser.create().parse_overrides(words)
    named = {o.key_or_group: o.value() for o in overrides if o.key_or_group in keys}
    if len(named) > 1:
        raise ValueError(" and ".join(f"{key}=" for key in named) + " both name a run: keep one of them")
    (key, folder), *_ = [*named.items(), ("", None)]
    if folder is None:
        if keys == ("run",) and not any(word.startswith("-") for word in typed):
            raise ValueError("run=<run folder> is missing: which run is it about?")
        ConfigStore.instance().store(name="run_config", node={})
        return Command(config_name, typed)
    base, source = _saved_run(key, Path(str(folder)), overrides)
    ConfigStore.instance().store(name="run_config", node=base)
    in_base = {o.input_line for o in _groups(overrides)}
    name: Program = "resume" if key == "resume" else "rerun" if key == "rerun" else config_name
    return Command(name, [word for word in typed if word not in in_base], source)


def _saved_run(key: str, folder: Path, overrides: list[Override]) -> tuple[dict[str, Any], untrusted.Source]:
    """The config of the run in `folder` with the groups that were typed, and where it comes from."""
    base = saved.load(f"{key}={folder}", folder, from_its_start=key == "rerun")
    groups = _groups(overrides)
    as_it_was = resume_rules.as_they_were(folder, groups, overrides) if key == "resume" else []
    chosen = [o for o in groups if o not in as_it_was]
    if key == "run":
        saved.forget_limits(base)
    base = saved.with_groups(base, chosen)
    if any(o.key_or_group == "monitor" and o.value() != base.get("monitor") for o in overrides):
        base["mode"] = None  # the other metric says it, unless it is typed
    source = untrusted.Source(folder, saved.typed_keys(overrides))
    if key == "resume":
        force = any(o.key_or_group == "force" and o.value() is True for o in overrides)
        others = [o for o in overrides if o.key_or_group not in ("resume", "force") and o not in as_it_was]
        base["forced"] = resume_rules.forced(folder, base, others, force)
    elif key == "rerun":
        resume_rules.refuse_unfinished(f"rerun={folder}", folder)
    return base, source


def _groups(overrides: list[Override]) -> list[Override]:
    return [o for o in overrides if o.type == OverrideType.CHANGE and (CONF / o.key_or_group).is_dir()]


def to_go_on_with(folder: Path, overrides: Sequence[str]) -> Command:
    """The command to go on with a sweep's job, in its folder.

    Values of parts that the job's own command types are typed again: they may name places outside of its folder.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    typed = [o for o in parsed if not o.is_delete() and _is_part(o.key_or_group)]
    again = [f"++{(o.input_line or '').lstrip('+')}" if o.is_add() else o.input_line or "" for o in typed]
    return read_command("train", ("resume",), [with_value("resume", folder), *again])


def _is_part(key: str) -> bool:
    return "." in key and bool(rule(key, "parts")) and not rule(key, "reads")


def without_dashes(words: list[str]) -> list[str]:
    """`--rerun <folder>` and `--rerun=<folder>` are rerun=<folder>."""
    if "--rerun" in words[:-1]:
        n = words.index("--rerun")
        words = [*words[:n], f"--rerun={words[n + 1]}", *words[n + 2 :]]
    return [word.removeprefix("--") if word.startswith("--rerun=") else word for word in words]
