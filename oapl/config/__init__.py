"""RunConfig, and what belongs to settings: their sections, their fields, their form in TOML."""

from oapl.config.sections import RunConfig

__all__ = ["RunConfig"]
