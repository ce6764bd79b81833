"""Asynchronous off-policy reinforcement-learning post-training of reasoning language models."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oapl.config import RunConfig

__all__ = ["RunConfig"]


def __getattr__(name: str) -> object:
    """`RunConfig`, when it is asked for: `python -m oapl` first looks at where it runs."""
    if name != "RunConfig":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from oapl.config import RunConfig

    return RunConfig
