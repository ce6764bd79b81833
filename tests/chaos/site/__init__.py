"""On PYTHONPATH of the runs that `make chaos` strikes."""
