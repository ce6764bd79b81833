"""Runs that lose machines while they train."""
