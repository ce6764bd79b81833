"""What the stem verifier takes for right: choices, quantities, short text."""

import dataclasses

import pytest

from oapl.errors import InputError
from reward_server.verifiers import stem
from tests.support.judging import built, prompt, rollout

CHOICES = ["the nucleus", "mitochondria", "2.5 m/s", "a ribosome"]
LISTED = "Where is ATP made?\n(A) nucleus\n(B) mitochondria\n(C) ribosome\n(D) none of these"


def judged(answer, gold, *, text="q", **options):
    reference = {"answer": gold}
    if "choices" in options:
        reference["choices"] = options.pop("choices")
    response = rollout(rf"\boxed{{{answer}}}")
    return built("stem", **options).verify(prompt(reference, {"stem": 1.0}, text=text), response)


@pytest.mark.parametrize(
    "answer",
    ["B", "(B)", "b", "B.", "B. mitochondria", r"\text{(B)}", r"\textbf{B}", "(B) mitochondria",
     "Option B", "mitochondria", "Mitochondria.", r"\text{Mitochondria}", "the mitochondria"],
)  # fmt: skip
def test_a_choice_may_be_named_by_its_letter_or_by_its_text(answer):
    assert judged(answer, "B", choices=CHOICES).reward == 1.0
    assert judged(answer, "mitochondria", choices=CHOICES).reward == 1.0
    assert judged(answer, "D", choices=CHOICES).reward == 0.0


@pytest.mark.parametrize("answer", ["A", "A or B", "(A) (B)", "A, B", "AB", "B. a ribosome", "E"])
def test_another_choice_several_or_a_contradiction_are_wrong(answer):
    assert judged(answer, "B", choices=CHOICES).reward == 0.0


def test_choices_are_read_from_the_question_where_the_reference_has_none():
    question = dataclasses.replace(prompt({"answer": "B"}), question=LISTED)
    assert list(stem.choices_of(question)) == ["A", "B", "C", "D"]
    assert built("stem").verify(question, rollout(r"\boxed{mitochondria}")).reward == 1.0
    assert built("stem").verify(question, rollout(r"\boxed{ribosome}")).reward == 0.0
    listed = prompt({"answer": "B", "choices": {"a": "nucleus", "(b)": "mitochondria"}})
    assert stem.choices_of(listed) == {"A": "nucleus", "B": "mitochondria"}


def test_a_letter_without_known_choices_is_compared_as_a_letter():
    assert judged("(C) 12 N", "C").reward == 1.0
    assert judged("D", "C").reward == 0.0
    assert judged("A, C", "C, A").reward == 1.0
    assert judged("A", "A, C").reward == 0.0
    assert judged("C", "c").reward == 0.0  # the speed of light is no choice


RIGHT = [
    ("9.8 m/s^2", r"9.8\ \mathrm{m/s^2}"), ("9.81", "9.8 m/s^2"), ("500 cm", "5 m"), ("5 m", "5"),
    ("36 km/h", "10 m/s"), (r"3.0\times10^8 m/s", "2.998e8 m/s"), ("1.6e-19 C", "1.602e-19 C"),
    ("4.2 kJ", "4184 J"), ("250 mL", "0.25 L"), ("2 atm", "202650 Pa"), ("90 min", "1.5 hours"),
    ("1 kWh", "3.6 MJ"), ("0.5 nm", "5 Å"), ("5 N m", "5 J"), ("12 V", "12 volts"), ("-3", "-3"),
    ("8.31 J/(mol K)", "8.314 J mol^{-1} K^{-1}"), ("25%", "0.25"), (r"\frac{1}{3}", "0.3333"),
    ("v = 3.0 m/s", "3 m/s"), (r"\approx 2.7", "2.71"), ("20 degrees Celsius", "20 °C"),
    ("1 eV", "1.6e-19 J"), (r"5\ \mu\text{m}", "5e-6 m"), ("100 g", "0.1 kg"), ("7.0", "7"),
]  # fmt: skip
WRONG = [
    ("9.8 m/s", "9.8 m/s^2"), ("5 cm", "5 m"), ("10.2", "10"), ("101", "100"), ("1951", "1950"),
    ("3e8", "3e-8"), ("-2.5", "2.5"), ("2.5", "2.6"), ("20 K", "20 °C"), ("0", "0.001"), ("x", "5"),
    ("5 N", "5 J"), ("12 or 13", "12"), ("5 kg", "5 g"), ("1 MPa", "1 mPa"), ("", "5"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_quantities_are_compared_in_one_unit_and_within_the_tolerance(answer, gold):
    verdict = judged(answer, gold)
    assert verdict.reward == 1.0, verdict


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_other_values_units_and_hedges_are_wrong(answer, gold):
    assert judged(answer, gold).reward == 0.0


def test_the_tolerance_is_a_setting_and_spares_whole_numbers():
    assert judged("1.05", "1.0").reward == 0.0
    assert judged("1.05", "1.0", tolerance=0.06).reward == 1.0
    assert judged("105", "100", tolerance=0.06).reward == 0.0
    assert judged("1.0001", "1.0", tolerance=0).reward == 0.0
    with pytest.raises(InputError, match=r"reward\.options\.stem\.tolerance"):
        built("stem", tolerance=1.5)


@pytest.mark.parametrize(
    ("answer", "gold", "is_right"),
    [
        ("Photosynthesis", "photosynthesis", True), (r"\text{the Krebs cycle}", "Krebs cycle", 1),
        ("osmosis", "diffusion", False), (r"\frac{mv^2}{2}", r"\frac{1}{2} m v^2", True),
        (r"\frac{mv^2}{3}", r"\frac{1}{2} m v^2", False), ("NaCl", "NaCl", True),
        ("H_2O", r"\mathrm{H_2O}", True), ("CO_2", "H_2O", False), ("increases", "decreases", 0),
        ("listen", "silent", False), ("sp^3", "sp^3", True), ("sp^2", "sp^3", False),
    ],
)  # fmt: skip
def test_words_are_compared_as_text_and_formulas_as_mathematics(answer, gold, is_right):
    assert (judged(answer, gold).kind == "accepted") == is_right


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("H_2O", ["H2O", "H_{2}O", r"\mathrm{H_2O}", r"\mathrm{H}_2\mathrm{O}", r"\ce{H2O}", "H₂O"],
         ["HO2", "H2O2", "h2o", "H_3O", "HO_2", "H_2O^+"]),
        ("C6H12O6", ["C_6H_{12}O_6"], ["C_6H_{10}O_6", "C_{12}H_6O_6"]),
        ("SO_4^{2-}", ["SO4^2-", r"\mathrm{SO_4^{2-}}"], ["SO_4", "SO_4^{-}", "SO_3^{2-}"]),
        ("Fe^{3+}", ["Fe3+", r"\mathrm{Fe^{3+}}"], ["Fe^{2+}", "Fe2+", "Fe_3^+", "Fe"]),
        ("Fe3+", ["Fe^{3+}"], ["Fe^{2+}", "Fe"]),
        ("SO_4^{2-}", ["SO42-"], ["SO_{42}^-", "SO43-"]),
        ("Na^+", ["Na+"], ["Na^-", "Na"]),
        ("Ca(OH)_2", ["Ca(OH)2", r"\text{Ca(OH)}_2"], ["CaOH2", "Ca(OH)_3"]),
        ("CO", [], ["Co", "CO_2"]),
        ("x_2", [], ["x2"]),
    ],
)  # fmt: skip
def test_a_formula_is_the_same_however_its_figures_are_set(gold, right, wrong):
    assert [judged(answer, gold).reward for answer in right] == [1.0] * len(right)
    assert [judged(answer, gold).reward for answer in wrong] == [0.0] * len(wrong)


@pytest.mark.parametrize(
    ("answer", "gold", "is_right"),
    [
        (r"\text{12 cm}", "12", True), (r"\text{12 cm}", "0.12 m", True),
        ("F = ma = 10 N", "10 N", True), (r"\text{12 cm}", "12 m", False),
        ("2v = 3 m/s", "3 m/s", False), ("v^2 = 9", "9", False),
        ("pH = 7", "7", True), (r"\Delta H = -5.0 kJ", "-5 kJ", True), ("E_k = 2 J", "2 J", True),
    ],
)  # fmt: skip
def test_text_around_a_quantity_and_a_name_before_it_are_no_part_of_it(answer, gold, is_right):
    assert (judged(answer, gold).kind == "accepted") == is_right


def test_what_has_no_answer_is_malformed_and_the_range_is_selectable():
    question = prompt({"answer": "4"}, {"stem": 1.0})
    assert built("stem").verify(question, rollout("four")).kind == "malformed"
    assert judged("5", "4", range="minus_one_one").reward == -1.0
    with pytest.raises(InputError, match="no reference answer"):
        judged("4", None)
