"""Written questions, an exam and what becomes of its texts when they are copied, cut and changed.

Each question of the exam goes through every change, so that each change meets figures, formulas,
accents, contractions, units and other letters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

EXAM = (
    "A train leaves Paris at noon and travels 60 km/h for 3 hours; how far is it from Paris at "
    "three o'clock in the afternoon?",
    "Let $x_1, x_2$ be the roots of $x^2 - 5x + 6 = 0$. Find $\\frac{1}{x_1} + \\frac{1}{x_2}$ in "
    "lowest terms, and write it as one fraction.",
    "Zoë and José can't agree: she says that naïve café owners cannot count, he says they're good "
    "at it and gonna win. Who is right?",
    "If a rope of 10km weighs 2.5kg per metre, what's the weight of 1,200.75 metres of it in grams "
    "to the nearest 0.5g?",
    "Show that for all n ≥ 2 the sum 1 + 2 × 3 ± n ÷ 2 is at most π · n² whenever ∠ABC = 90° holds "
    "in the triangle.",
    "Write a function max_sub_array(nums) that returns the largest sum of a contiguous run of the "
    "list nums; e.g. [1, -2, 3] gives 3.",
    "Mr. Smith's shop sells well-known state-of-the-art lamps at $19.99 each (plus 8% tax) on "
    "Monday, 5 p.m., U.S. time, doesn't it?",
    "Сколько яблок осталось у Пети, если у него было 12 яблок и он отдал 5 из них своей сестре "
    "вчера вечером?",
    "How many ordered pairs (a, b) of positive integers with a + b = 2024 have the property that a "
    "divides b?",
    "Add 2 and 3.",
    "What is the capital of France, exactly?",
    "e^{i\\pi} + 1 = 0: who wrote it, and in which year was it printed for the very first time in "
    "a book?",
)


def _first(count: int) -> Callable[[str], str]:
    return lambda text: " ".join([*text.split()[:count], "and then something else of our own"])


def _last(count: int) -> Callable[[str], str]:
    return lambda text: " ".join(["Consider what we say here:", *text.split()[-count:]])


def _without(marks: str) -> Callable[[str], str]:
    return lambda text: "".join(" " if letter in marks else letter for letter in text)


CHANGES: Mapping[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "in capitals": str.upper,
    "with other words around it": lambda text: f"Here is one: {text} Think well before you answer.",
    "on lines": lambda text: text.replace(" ", "\n", 3).replace(". ", ".\n\n"),
    "its first 6 words": _first(6),
    "its first 8 words": _first(8),
    "its first 9 words": _first(9),
    "its first 13 words": _first(13),
    "its first 16 words": _first(16),
    "its last 7 words": _last(7),
    "its last 8 words": _last(8),
    "its last 10 words": _last(10),
    "its last 14 words": _last(14),
    "without marks": _without("$\\{}^_.,;:?!()[]'\"-+=/%"),
    "other figures": lambda text: text.translate(str.maketrans("0123456789", "1234567890")),
    "figures and units apart": lambda text: text.replace("km", " km ").replace("kg", " kg "),
    "other signs": lambda text: text.replace("×", "*").replace("≥", ">=").replace("²", "^2"),
    "contractions written out": lambda text: (
        text.replace("can't", "can not").replace("cannot", "can not").replace("gonna", "gon na")
    ),
    "accents apart": lambda text: text.replace("é", "e\u0301").replace("ï", "i\u0308"),
    "without accents": lambda text: text.replace("é", "e").replace("ï", "i").replace("ë", "e"),
    "every fifth word other": lambda text: " ".join(
        "thing" if place % 5 == 4 else word for place, word in enumerate(text.split())
    ),
    "backwards": lambda text: " ".join(text.split()[::-1]),
}


def cases() -> dict[str, str]:
    """Each question by a name that says how it came about; what changed nothing is left out."""
    names: dict[str, str] = {}
    for number, text in enumerate(EXAM):
        for change, make in CHANGES.items():
            names.setdefault(make(text), f"{number}, {change}")
    return {name: text for text, name in names.items()}
