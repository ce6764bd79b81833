"""One file per measure of an evaluation, or per family; `base` says what each declares."""
