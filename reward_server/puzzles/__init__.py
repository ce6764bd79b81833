"""Puzzles of reasoning-gym: their entries, scorers, and what is known of those."""
