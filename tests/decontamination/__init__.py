"""Our contamination filter beside datatrove's n-gram decontamination."""
