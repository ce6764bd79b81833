"""A user's reward function: found, read without running it, called by the names it knows."""
