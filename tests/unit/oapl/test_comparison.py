"""Two evaluations side by side, by hand."""

from oapl.comparison import compare


def test_compare_pairs_measures_with_their_errors():
    rows = compare(
        {"eval/s/mean@4": 0.25, "eval/s/mean@4_se": 0.1, "eval/s/old": 1.0},
        {"eval/s/mean@4": 0.75, "eval/s/mean@4_se": 0.2, "eval/s/new": 2.0},
    )
    assert [(r.measure, r.before, r.after, r.change) for r in rows] == [
        ("s/mean@4", 0.25, 0.75, 0.5),
        ("s/new", None, 2.0, None),
        ("s/old", 1.0, None, None),
    ]
    assert (rows[0].before_se, rows[0].after_se) == (0.1, 0.2)
