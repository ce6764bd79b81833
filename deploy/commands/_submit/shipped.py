"""What goes with a job: the copy of the working directory, and words that mean the same there."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from oapl.config import RunConfig
from oapl.config.objective import verb_of
from oapl.config.recipes import files_of
from oapl.config.stages import stages_of

EXCLUDES = (
    *(".git", ".venv", "venv", "runs", "data", "wandb", "__pycache__", "node_modules", ".*_cache"),
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.whl", "*.parquet", ".env"),
)
"""Names of files and folders, at any depth, that stay here."""


def entrypoint(
    config: RunConfig,
    recipe: Path,
    overrides: Sequence[str],
    *,
    is_shipped: Callable[[Path], bool],
) -> str:
    """The job's command line; what is not in the shipped copy is named by its absolute path.

    Args:
        config: The recipe with its overrides.
        recipe, overrides: As the user gave them.
        is_shipped: Whether a file is in the copy.
    """
    command = verb_of(config)
    place = recipe if all(map(is_shipped, files_of(recipe))) else recipe.absolute()
    words = ["python", "-m", "oapl", command, str(place), *overrides]
    words += absolute_paths(config, is_shipped)
    words += _paths_of_stages(config, is_shipped)
    # The job's own cluster, which Ray names in RAY_ADDRESS, whatever name it has here.
    return shlex.join([*words, "cluster.address="])


def absolute_paths(config: RunConfig, is_shipped: Callable[[Path], bool]) -> Iterator[str]:
    """Overrides for paths that exist here and not in the copy; hub names stay as they are.

    Args:
        config: Names the paths.
        is_shipped: Whether a file is in the copy.
    """
    yield f"run.dir={Path(config.run.dir).expanduser().absolute()}"
    models = {"model.path": config.model.path, "critic.path": config.critic.path}
    named = {**models, "checkpoint.resume": config.checkpoint.resume}
    named["tracking.baseline"] = config.tracking.baseline
    for section in ("data", "eval"):
        for index, source in enumerate(getattr(config, section).sources):
            for key in ("path", "dataset"):
                named[f"{section}.sources.{index}.{key}"] = getattr(source, key)
    for index, folder in enumerate(config.replay.path):
        named[f"replay.path.{index}"] = folder
    for key, text in named.items():
        path = Path(text)
        is_kept = path.is_absolute() or not text or not path.exists()
        if not is_kept and (key in models or not is_shipped(path)):
            yield f"{key}={path.absolute()}"
    for name, options in config.reward.options.items():
        file, colon, function = str(options.get("function", "")).rpartition(":")
        path = Path(file).expanduser()
        if colon and path.is_file() and not path.is_absolute() and not is_shipped(path):
            yield f"reward.options.{name}.function={path.absolute()}:{function}"


def _paths_of_stages(config: RunConfig, is_shipped: Callable[[Path], bool]) -> Iterator[str]:
    """The same for paths that stages say themselves."""
    for stage in stages_of(config):
        for override in absolute_paths(stage.config, is_shipped):
            key = override.partition("=")[0]
            if any(key == said or key.startswith(f"{said}.") for said in stage.says):
                yield f"stages.{stage.number - 1}.{override}"


def is_shipped(path: Path, excludes: Sequence[str]) -> bool:
    """Whether a file goes with the working directory: it lies there, and nothing excludes it.

    Args:
        path: As it stands in a setting.
        excludes: Patterns of names, at any depth.
    """
    absolute, here = path.absolute(), Path.cwd()
    if path.is_absolute() or ".." in path.parts or not absolute.is_relative_to(here):
        return False
    if any(fnmatch(part, pattern) for part in path.parts for pattern in excludes):
        return False
    with contextlib.suppress(FileNotFoundError):  # no git, nothing that git ignores
        ask = ["git", "check-ignore", "--quiet", str(path)]
        return subprocess.run(ask, capture_output=True, timeout=30).returncode != 0
    return True
