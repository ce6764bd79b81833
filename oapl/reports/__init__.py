"""What a run did, in figures and tables: one file per figure, data in, picture out.

    study = Study.read([Path("runs/one"), Path("runs/two")])
    write(study, draw(study), Path("report.html"))

`base` says what a figure declares and what it gives; `_study` reads run folders, `_drawing` turns
what figures give into pictures, `_page` puts all of them on one page.
"""

from oapl.reports._page.page import draw, write, write_png
from oapl.reports._study.study import Study
from oapl.reports._study.tested import before_and_after

__all__ = ["Study", "before_and_after", "draw", "write", "write_png"]
