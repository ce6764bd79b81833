"""Filtering of stored groups; the filters themselves are files of `deploy/filters/`.

`choosing` reads which filters, `running` applies them, `report` tells what each did.
"""
