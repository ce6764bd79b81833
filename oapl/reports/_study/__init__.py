"""Run folders, read back for figures: curves, evaluations, answers, what happened when."""
