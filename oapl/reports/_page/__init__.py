"""The page: all figures of some runs in one file that needs nothing else."""
