"""Asynchronous off-policy reinforcement-learning post-training of reasoning language models."""

from oapl.config import RunConfig

__all__ = ["RunConfig"]
