"""Objectives at equal policy lag: a first slice of the comparison that the papers make."""
