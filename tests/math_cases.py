r"""Verdicts on mathematical answers that leave no room for doubt, by category.

Each case is (answer, reference, whether it is right). An answer is the content of the box, but in
the categories of `WHOLE_RESPONSES`, where it is a response. All cases were written before any of
them was judged; one in five, by checksum, is held out: no rule of the verifier was made or changed
for its sake.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

WHOLE_RESPONSES = ("several boxes", "extraction")
HELD_OUT_SHARE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One answer with its verdict."""

    category: str
    answer: str
    gold: str
    is_right: bool

    @property
    def is_held_out(self) -> bool:
        return zlib.crc32(f"{self.answer}|{self.gold}".encode()) % HELD_OUT_SHARE == 0

    @property
    def response(self) -> str:
        return self.answer if self.category in WHOLE_RESPONSES else rf"\boxed{{{self.answer}}}"


def cases() -> list[Case]:
    return [
        Case(category=category, answer=answer, gold=gold, is_right=bool(is_right))
        for category, rows in _TABLE.items()
        for answer, gold, is_right in rows
    ]


# fmt: off
_TABLE: dict[str, list[tuple[str, str, int]]] = {
    "numbers": [
        ("42", "42", 1), ("+7", "7", 1), ("-0", "0", 1), ("42.0", "42", 1), ("-15", "15", 0),
        ("41", "42", 0), ("420", "42", 0), ("  42  ", "42", 1), (r"\mathbf{42}", "42", 1),
        (r"\text{42}", "42", 1), (r"\textbf{17}", "17", 1), ("{17}", "17", 1), (r"-\,5", "-5", 1),
        ("- 5", "-5", 1), ("(-3)", "-3", 1), ("４２", "42", 1), ("-17", "−17", 1),
        ("10^{12}", "1000000000000", 1), ("99999999999999999999", "100000000000000000000", 0),
        ("2^{100}", "1267650600228229401496703205376", 1), ("17!", "17", 0), ("1 7", "17", 0),
        (r"\displaystyle 42", "42", 1), ("42 .", "42", 1), ("-7", "7", 0),
    ],
    "thousands": [
        ("1,234,567", "1234567", 1), ("1 234 567", "1234567", 1), (r"1\,234\,567", "1234567", 1),
        ("1{,}234{,}567", "1234567", 1), ("1,234.50", "1234.5", 1), ("12,345", "12345", 1),
        ("12,345", "12.345", 0), ("1,234", "1,235", 0), ("1,23", "123", 0),
        ("100,000", "1000000", 0), (r"\$1,250", "1250", 1), (r"1\ 000", "1000", 1),
        ("1,000,000", "10^6", 1), ("2,500 meters", "2500", 1), ("-3,200", "-3200", 1),
        (r"10,\!000", "10000", 1), ("86400", r"86,\!400", 1), ("1~000", "1000", 1),
    ],
    "decimals": [
        ("0.50", "0.5", 1), (".75", "0.75", 1), ("0.125", "1/8", 1), ("3.14", r"\pi", 0),
        ("2.718", "e", 0), ("0.3333", "1/3", 0), ("0.67", "2/3", 0), ("0.0", "0", 1),
        ("1.0000001", "1", 0), ("0.1", "0.10", 1), ("-0.25", r"-\frac{1}{4}", 1),
        (r"0.\overline{6}", "2/3", 1), (r"0.1\overline{6}", r"\frac{1}{6}", 1),
        (r"0.\dot{3}", "1/3", 1), (r"0.333\ldots", "1/3", 1),
        (r"0.\overline{27}", r"\frac{3}{11}", 1), (r"0.\overline{27}", "0.27", 0),
        ("1.5", r"1\frac12", 1), ("1.05", "1.5", 0), ("19.99", "20", 0), ("100.", "100", 1),
        ("0.25", "0.26", 0), ("0.00001", "0", 0),
    ],
    "fractions": [
        (r"\frac{2}{4}", r"\frac{1}{2}", 1), (r"\frac{1}{2}", "0.5", 1),
        (r"\tfrac{7}{3}", "7/3", 1), (r"-\frac{3}{5}", r"\frac{-3}{5}", 1),
        (r"\frac{3}{-5}", r"-\frac{3}{5}", 1), (r"\frac35", "3/5", 1),
        (r"\frac{5}{3}", r"\frac{3}{5}", 0), (r"2\frac{1}{3}", r"\frac{7}{3}", 1),
        (r"2\frac{1}{3}", r"\frac{2}{3}", 0), (r"\frac{10}{2}", "5", 1),
        ("{3}/{5}", r"\frac{3}{5}", 1), ("3 / 5", r"\frac{3}{5}", 1), ("(3/5)", "3/5", 1),
        (r"{\frac{3}{5}}", "3/5", 1), (r"\frac{\frac{1}{2}}{3}", r"\frac16", 1),
        (r"\left(\frac{3}{5}\right)", "0.6", 1), ("7/0", "0", 0), (r"\frac{22}{7}", r"\pi", 0),
        (r"{3 \over 5}", "3/5", 1), (r"\frac{13}{100}", "0.13", 1), (r"\frac 1 2", "1/2", 1),
        (r"\frac{355}{113}", "3.1415929", 0), (r"\frac{1}2", r"\frac12", 1),
        (r"\frac{1{,}000}{3}", r"\frac{1000}{3}", 1), (r"1 \frac{3}{4}", "1.75", 1),
        (r"\frac{-4}{-6}", r"\frac23", 1), (r"\cfrac{5}{6}", "5/6", 1), ("¾", "0.75", 1),
        (r"\frac{\,3\,}{\,5\,}", "3/5", 1), (r"-2\frac{1}{4}", "-2.25", 1),
        (r"-2\frac{1}{4}", "-1.75", 0),
    ],
    "percentages": [
        (r"25\%", r"25\%", 1), ("25%", r"\frac{1}{4}", 1), ("25 %", "25", 1), ("0.25", r"25\%", 1),
        ("25", r"25\%", 1), (r"12.5\%", "12.5", 1), (r"12.50\%", r"12.5\%", 1),
        (r"2500\%", "25", 1), (r"33\frac{1}{3}\%", r"33\frac{1}{3}", 1),
        (r"\frac{100}{3}\%", r"\frac{1}{3}", 1), (r"33\%", r"\frac{1}{3}", 0),
        (r"20\%", r"30\%", 0), ("25", "0.25", 0), (r"25\text{ percent}", r"25\%", 1),
        ("25 percent", "0.25", 1), (r"50\%", "5", 0), (r"-10\%", "-10", 1), (r"10\%", "-10", 0),
        (r"25\text{\%}", "25", 1),
    ],
    "units": [
        (r"5\text{ cm}", "5", 1), (r"5 \mathrm{~cm}", "5", 1), ("5", r"5\text{ cm}", 1),
        (r"12\text{ square inches}", "12", 1), (r"30\text{ mph}", "30", 1),
        ("30 miles per hour", "30", 1), (r"18\text{ cm}^2", "18", 1),
        (r"18\text{ cm}^{2}", r"18\text{ cm}^2", 1), (r"7\text{ apples}", "7", 1),
        (r"45\text{ minutes}", "45", 1), (r"6\text{ cm}", r"8\text{ cm}", 0),
        (r"3.5\ \text{m/s}", "3.5", 1), (r"3\sqrt{2}\text{ cm}", r"3\sqrt{2}", 1),
        (r"\frac{1}{2}\text{ hour}", "0.5", 1), (r"25\text{ units}^2", "25", 1), ("10 kg", "10", 1),
        (r"9.8\,\text{m/s}^2", "9.8", 1), (r"9.8\ \mathrm{m}/\mathrm{s}^2", "9.8", 1),
        (r"2\pi\text{ radians}", r"2\pi", 1), (r"12\text{ dollars}", "13", 0),
        (r"16\pi \text{ cubic feet}", r"16\pi", 1), (r"5\text{ m}", "5", 1),
        (r"5\text{ cm}", r"5\text{ m}", 0), (r"500\text{ cm}", r"5\text{ m}", 1),
        (r"90\text{ minutes}", r"1.5\text{ hours}", 1), ("5 meters", r"5\text{ m}", 1),
        (r"60\text{ km/h}", "60", 1), ("3 cubic meters", "3", 1), (r"64\text{ in}^3", "64", 1),
        (r"8\text{ hours}", r"8\text{ days}", 0), (r"12 \text{ people}", r"12 \text{ people}", 1),
    ],
    "money": [
        (r"\$45", "45", 1), (r"\$45.00", "45", 1), (r"45\text{ dollars}", r"\$45", 1),
        (r"\$1{,}200", "1200", 1), ("45 USD", "45", 1), (r"\$0.45", "0.45", 1),
        (r"\$45", r"\$54", 0), ("€45", "45", 1), ("£3.50", "3.5", 1), (r"\text{\$}45", "45", 1),
        (r"\$-5", "-5", 1), (r"-\$5", "-5", 1), (r"\$45", "4.5", 0),
    ],
    "degrees": [
        (r"60^\circ", "60", 1), (r"60^{\circ}", "60", 1), ("60°", r"60^\circ", 1),
        ("60 degrees", "60", 1), (r"60\text{ degrees}", r"60^\circ", 1), (r"60\degree", "60", 1),
        (r"30^\circ", r"60^\circ", 0), (r"-45^\circ", "-45", 1), (r"72.5^\circ", "72.5", 1),
        (r"20^\circ\text{C}", "20", 1), (r"\angle A = 60^\circ", "60", 1),
    ],
    "scientific": [
        (r"3\times10^8", "300000000", 1), (r"3 \times 10^{8}", r"3\cdot10^8", 1),
        ("3e8", "300000000", 1), ("3E8", r"3\times10^8", 1), (r"1.5\times10^{-3}", "0.0015", 1),
        (r"6.02\times10^{23}", r"6.02\times 10^{22}", 0), (r"0.30\times10^9", r"3\times10^8", 1),
        ("3*10^8", r"3\times10^8", 1), ("10^{-3}", "0.001", 1), ("2.5×10⁴", "25000", 1),
        (r"3\times10^8", r"3\times10^{-8}", 0), ("4.5e33", "4.5e33", 1),
        (r"4.5 \times 10^{33}", "4.5e33", 1), (r"1.6\times10^{-19}\text{ C}", "1.6e-19", 1),
        ("-2.5e-4", "-0.00025", 1), ("1e-7", "0", 0),
    ],
    "radicals": [
        (r"\sqrt{8}", r"2\sqrt{2}", 1), (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}", 1),
        ("5^{1/2}", r"\sqrt{5}", 1), (r"\sqrt[3]{16}", r"2\sqrt[3]{2}", 1),
        (r"\sqrt{2}+\sqrt{3}", r"\sqrt{3}+\sqrt{2}", 1), (r"\sqrt{5}", r"\sqrt{6}", 0),
        ("1.732", r"\sqrt{3}", 0), (r"\sqrt{2+\sqrt{3}}", r"\frac{\sqrt{6}+\sqrt{2}}{2}", 1),
        ("√5", r"\sqrt{5}", 1), ("2√3", r"2\sqrt{3}", 1), (r"\sqrt 7", r"\sqrt{7}", 1),
        (r"\sqrt{7}", r"\sqrt[3]{7}", 0), (r"-\sqrt{2}", r"\sqrt{2}", 0),
        (r"\frac{1+\sqrt{5}}{2}", r"\frac{\sqrt{5}+1}{2}", 1),
        (r"\frac{1+\sqrt5}{2}", r"\frac{1-\sqrt5}{2}", 0), (r"2^{\frac{1}{3}}", r"\sqrt[3]{2}", 1),
        ("sqrt(5)", r"\sqrt{5}", 1), (r"3\sqrt{5}", r"\sqrt{45}", 1),
        (r"\sqrt{12}/2", r"\sqrt{3}", 1), (r"\dfrac{\sqrt{3}}{2}", r"\frac{\sqrt{3}}{2}", 1),
        (r"\frac{\sqrt3}2", r"\frac{\sqrt{3}}{2}", 1), (r"2\sqrt{3}", r"3\sqrt{2}", 0),
        ("2*sqrt(3)", r"2\sqrt{3}", 1), (r"4\sqrt{3}-6", r"-6+4\sqrt3", 1), (r"\sqrt{10}", "10", 0),
    ],
    "constants and functions": [
        (r"4\pi", "12.566", 0), ("π", r"\pi", 1), (r"\frac{4}{3}\pi", r"\frac{4\pi}{3}", 1),
        ("4pi/3", r"\frac{4\pi}{3}", 1), ("e^{-1}", r"\frac{1}{e}", 1), ("2e", "e^2", 0),
        (r"\ln 8", r"3\ln 2", 1), (r"\log_3 5", r"\frac{\log 5}{\log 3}", 1),
        (r"\ln(2)", r"\ln 2", 1), (r"\sin(\pi/8)", r"\frac{\sqrt{2-\sqrt{2}}}{2}", 1),
        (r"\cos x", r"\sin x", 0), (r"2\sin x\cos x", r"\sin 2x", 1),
        (r"\tan^{-1}(2)", r"\arctan 2", 1), (r"\arctan(2)", r"\arctan 2", 1),
        (r"1-\ln 2", r"\ln 2 - 1", 0), (r"\pi/2", r"\frac{\pi}{2}", 1),
        (r"\frac{\pi^2}{6}", r"\frac{\pi^{2}}{6}", 1), (r"\pi^2/6", r"\frac{\pi}{6}", 0),
        (r"\frac{x^2}{2}+C", r"\frac{1}{2}x^2+C", 1), (r"\sin x + C", r"-\sin x+C", 0),
        (r"e^x(\sin x+1)", r"e^x\sin x+e^x", 1), (r"\ln|x|+C", r"\ln |x| + C", 1),
        (r"1+\cot^2 x", r"\csc^2 x", 1),
    ],
    "algebra": [
        ("x^2-1", "(x-1)(x+1)", 1), ("2x+3", "3+2x", 1), ("2(x+3)", "2x+6", 1), ("2x+3", "2x-3", 0),
        ("x^2+1", "x^2", 0), (r"\frac{x+1}{x}", r"1+\frac{1}{x}", 1), ("ab", "ba", 1),
        ("a^2b", "ab^2", 0), ("n(n+1)/2", r"\frac{n^2+n}{2}", 1), ("2^{n+1}-2", "2(2^n-1)", 1),
        ("(a+b)^2", "a^2+b^2", 0), ("-x+5", "5-x", 1), ("5-x", "x-5", 0),
        (r"\frac{a}{b}", "a/b", 1), (r"\frac{a}{b}", r"\frac{b}{a}", 0), ("3x^2y", "3yx^2", 1),
        ("x_1+x_2", "x_2+x_1", 1), ("x_1", "x_2", 0), ("2xy", "2x+y", 0), ("|x|", "x", 0),
        ("k^2", "n^2", 0), (r"\lfloor x\rfloor", r"\lceil x\rceil", 0),
        (r"\frac{1}{1-x}", r"\frac{-1}{x-1}", 1), (r"\binom{2n}{n}", r"\frac{(2n)!}{(n!)^2}", 1),
        (r"\frac{(2n)!}{(n!)^2}", r"\binom{2n}{n}", 1), ("3^{n}", "n^{3}", 0),
        (r"x\cdot y", "xy", 1), ("x*y", "xy", 1), ("4x^3-12x", "4x(x^2-3)", 1),
        ("(-1)^{n+1}", "(-1)^{n-1}", 1),
    ],
    "equations": [
        ("x = 5", "x=5", 1), ("5", "x = 5", 1), ("x=4", "5", 0), ("y = 3x - 2", "y=3x-2", 1),
        ("3x - y = 2", "y=3x-2", 1), ("y=3x-2", "y=3x+2", 0), ("f(x)=2x", "2x", 1),
        ("y=x^2", "x^2", 1), ("(x-1)^2+(y-2)^2=9", "(x-1)^{2}+(y-2)^{2}=9", 1),
        ("x^2+y^2-2x-4y-4=0", "(x-1)^2+(y-2)^2=9", 1),
        ("(y-2)^2+(x-1)^2=9", "(x-1)^2+(y-2)^2=9", 1),
        ("(x-1)^2+(y-2)^2=3", "(x-1)^2+(y-2)^2=9", 0), ("2x-4y+6=0", "x-2y+3=0", 1),
        ("a_n = 2n+1", "2n+1", 1), ("f(2)=7", "7", 1), (r"S = \frac{n}{2}", r"\frac{n}{2}", 1),
        ("AB=10", "10", 1), (r"P(A)=\frac{1}{3}", r"\frac13", 1), ("x = 3 + 2 = 5", "5", 1),
        ("x=2,y=3", "x=2, y=3", 1), ("x=2,y=3", "x=3, y=2", 0),
        (r"x=5\text{ or }x=-5", r"\pm 5", 1),
        (r"\frac{x^2}{4}+\frac{y^2}{9}=1", r"\frac{y^2}{9}+\frac{x^2}{4}=1", 1),
        (r"\frac{x^2}{4}+\frac{y^2}{9}=1", r"\frac{x^2}{9}+\frac{y^2}{4}=1", 0),
    ],
    "sets": [
        (r"\{1,2,3\}", r"\{3,1,2\}", 1), (r"\{1, 2\}", r"\{1,2,3\}", 0), (r"\{1,2,3\}", "1,2,3", 1),
        (r"\left\{\frac12, 3\right\}", r"\{3, 0.5\}", 1), (r"\{\}", r"\emptyset", 1),
        (r"\emptyset", r"\{0\}", 0), (r"\{x \mid x>2\}", r"(2,\infty)", 1),
        (r"\{x : x > 2\}", "x>2", 1), (r"\mathbb{R}", r"(-\infty,\infty)", 1),
        (r"\mathbb{R}\setminus\{0\}", r"(-\infty,0)\cup(0,\infty)", 1), (r"\{a,b\}", r"\{b,a\}", 1),
        (r"\{2,4,6\}", r"\{2,4,8\}", 0), (r"\{-1,1\}", r"\pm1", 1),
        (r"\{(1,2),(3,4)\}", r"\{(3,4),(1,2)\}", 1), (r"\{(1,2)\}", r"\{(2,1)\}", 0),
        (r"\mathbb{Z}", r"\mathbb{R}", 0), (r"\lbrace 4, 5 \rbrace", r"\{4,5\}", 1),
        (r"\{\sqrt{8}, 1\}", r"\{1, 2\sqrt{2}\}", 1),
    ],
    "intervals": [
        ("(2,5]", r"2<x\le5", 1), ("(2,5]", "(2,5)", 0), ("[2,5)", "[2, 5)", 1),
        (r"\left(2,\infty\right)", r"(2,\infty)", 1), (r"x\ge3", r"[3,\infty)", 1),
        ("x > 3", r"[3,\infty)", 0),
        (r"(-\infty,-1)\cup(1,\infty)", r"(1,\infty)\cup(-\infty,-1)", 1),
        (r"x<-1 \text{ or } x>1", r"(-\infty,-1)\cup(1,\infty)", 1),
        (r"(2,+\infty)", r"(2,\infty)", 1), (r"3\le x", r"x\ge 3", 1), ("3 ≤ x", r"x\geq 3", 1),
        ("-1 < x < 4", "(-1,4)", 1), ("-1<x<4", r"-1\le x<4", 0), (r"x\in(-1,4)", "(-1,4)", 1),
        (r"[0,1]\cup[2,3]", r"[0,1]\cup[2,4]", 0), (r"(\frac{1}{2},1)", "(0.5,1)", 1),
        ("(1,2)", "[1,2]", 0), ("0 < a < 1", r"a \in (0,1)", 1), ("(−∞, 0)", r"(-\infty,0)", 1),
        (r"x \leqslant 3", r"x\le3", 1), (r"x \neq 3", r"x\ne3", 1), ("x<3", "x>3", 0),
        (r"[-\sqrt{2}, \sqrt{2}]", r"[-\sqrt2,\sqrt2]", 1),
        (r"[\frac{1}{3}, \infty)", r"[0.5,\infty)", 0),
    ],
    "tuples": [
        ("(1,2,3)", "(1, 2, 3)", 1), ("(1,2,3)", "(3,2,1)", 0), ("(1,2)", "(1,2,3)", 0),
        (r"(\frac12,-3)", "(0.5,-3)", 1), (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)", 1),
        ("(x,y)=(1,2)", "(1,2)", 1), ("(1,2),(3,4)", "(3,4),(1,2)", 1),
        ("(1,2) and (3,4)", "(1,2),(3,4)", 1), ("(1,2)", "(1,2),(3,4)", 0),
        (r"(\sqrt{8},1)", r"(2\sqrt2,1)", 1), ("(2,-1)", "(-2,1)", 0), ("(a,b)=(2,3)", "(2,3)", 1),
        ("(12, 6)", "126", 0), ("(3, 0.25)", r"(3,\frac14)", 1),
        (r"\langle 1,2\rangle", r"\langle 1, 2 \rangle", 1), ("(1, 1), (2, 4)", "(1,1),(2,5)", 0),
        ("(x, y, z) = (1, -1, 0)", "(1,-1,0)", 1), ("( -4 , 5 )", "(-4,5)", 1),
    ],
    "lists": [
        ("1,2,3", "3,2,1", 1), ("1, 2 and 3", "1,2,3", 1), ("x=1,x=2", "1,2", 1),
        ("x_1=1, x_2=2", "1,2", 1), ("2, -2", r"\pm 2", 1), ("1,2", "1,3", 0), ("1,2", "1,2,3", 0),
        ("1,2,3", "1,2", 0), ("1; 2", "1,2", 1), (r"-3,\frac12", r"\frac{1}{2},-3", 1),
        (r"\sqrt2, -\sqrt2", r"-\sqrt{2},\sqrt{2}", 1), ("0, 1, or 2", "0,1,2", 1),
        (r"1+\sqrt2, 1-\sqrt2", r"1\pm\sqrt{2}", 1), ("x=3 or x=4", "3", 0),
        (r"x = -1 \text{ or } 4", r"x=-1\text{ or }x=4", 1), ("2,3", "23", 0),
        ("10,20,30", "10,20,30.", 1), (r"\pm5", "5,-5", 1), (r"\pm 5", "5", 0), ("7", "7, 8", 0),
        (r"2, 3 \text{ and } 5", "2,3,5", 1),
    ],
    "matrices": [
        (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", 1),
        (r"\begin{pmatrix}1&2\\3&5\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", 0),
        (r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", 0),
        (r"\begin{pmatrix}1/2\\3\end{pmatrix}", r"\begin{pmatrix}\frac{1}{2}\\3\end{pmatrix}", 1),
        (r"\begin{pmatrix} 1 & 2 & 3 \end{pmatrix}", r"\begin{pmatrix}1\\2\\3\end{pmatrix}", 0),
        (r"\begin{pmatrix} 0.5 & 0\\0&0.5\end{pmatrix}",
         r"\begin{pmatrix}\frac12&0\\0&\frac12\end{pmatrix}", 1),
        (r"\begin{pmatrix}1&2\\3&4\\\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", 1),
        (r"\left(\begin{array}{cc}1&2\\3&4\end{array}\right)",
         r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", 1),
        (r"\begin{pmatrix}-1\\2\end{pmatrix}", r"\begin{pmatrix}1\\-2\end{pmatrix}", 0),
        (r"\begin{pmatrix}a+b\\c\end{pmatrix}", r"\begin{pmatrix}b+a\\c\end{pmatrix}", 1),
        (r"\begin{pmatrix} \sqrt8 \\ 1 \end{pmatrix}",
         r"\begin{pmatrix}2\sqrt{2}\\1\end{pmatrix}", 1),
        ("\\begin{pmatrix}\n 7 \\\\\n -2\n\\end{pmatrix}", r"\begin{pmatrix}7\\-2\end{pmatrix}", 1),
        (r"\begin{pmatrix}1&0\\0&1\end{pmatrix}",
         r"\begin{pmatrix}1&0&0\\0&1&0\\0&0&1\end{pmatrix}", 0),
        (r"\begin{bmatrix} \frac{3}{5} & \frac{4}{5} \\ -\frac{4}{5} & \frac{3}{5} \end{bmatrix}",
         r"\begin{pmatrix}0.6&0.8\\-0.8&0.6\end{pmatrix}", 1),
    ],
    "complex": [
        ("3+4i", "4i+3", 1), ("3+4i", "3-4i", 0), ("3+4i", "4+3i", 0), ("-i", "i", 0),
        (r"\frac{1}{2}+\frac{\sqrt{3}}{2}i", r"\frac{1+i\sqrt{3}}{2}", 1),
        (r"e^{i\pi/3}", r"\frac{1+i\sqrt{3}}{2}", 1), ("2i", r"\sqrt{-4}", 1),
        (r"5\mathrm{i}", "5i", 1), ("1 + 0i", "1", 1),
        (r"(1+i)/\sqrt2", r"\frac{\sqrt{2}}{2}+\frac{\sqrt{2}}{2}i", 1), ("2+3i", "5", 0),
        (r"-\frac{1}{2} - \frac{i}{2}", r"\frac{-1-i}{2}", 1),
    ],
    "text": [
        (r"\text{Tuesday}", "Tuesday", 1), ("tuesday", "Tuesday", 1), ("Wednesday", "Tuesday", 0),
        (r"\text{No}", "no", 1), (r"\text{yes}", r"\text{no}", 0), (r"\text{True}", "true", 1),
        (r"\mathrm{odd}", "odd", 1), ("odd", "even", 0), (r"\text{ellipse}", "Ellipse", 1),
        ("hyperbola", "ellipse", 0), (r"\text{isosceles}", "scalene", 0),
        ("Alice and Bob", "Alice", 0), (r"\text{July 4}", "July 4", 1), ("July 5", "July 4", 0),
        (r"\text{infinitely many}", "infinitely many", 1), (r"\text{none}", "None", 1),
        (r"\text{undefined}", "undefined", 1), (r"\text{Convergent}", "divergent", 0),
        (r"\text{parallel}", "parallel.", 1), ("red", r"\text{Red}", 1),
        (r"\text{ CAKE }", "cake", 1), ("stressed", "desserts", 0),
        (r"3:30 \text{ p.m.}", "3:30 p.m.", 1), ("3:30", "3:45", 0),
        (r"\textbf{Monday}", "Monday", 1), (r"\text{not possible}", "possible", 0),
    ],
    "choices": [
        (r"\textbf{(C)}", "C", 1), ("C", r"\text{(C)}", 1), ("(c)", "C", 1), ("D", "C", 0),
        (r"\text{C}", r"\text{C}", 1), ("C.", "C", 1), ("(C) 15", "C", 1), ("C: 15", "C", 1),
        (r"\textbf{(C)}\ 15", "C", 1), ("(B) 15", "C", 0), ("B and C", "C", 0), ("A, C", "A", 0),
        ("A, C", "C, A", 1), ("AC", "A", 0), ("Option C", "C", 1), (r"\mathrm{(E)}", "E", 1),
    ],
    "bases and ratios": [
        ("1011_{2}", "1011_2", 1), ("2A_{16}", "2A_{16}", 1), ("2A_{16}", "2B_{16}", 0),
        ("134_5", "134_6", 0), ("134", "134_5", 1), ("(134)_5", "134_5", 1), ("143_5", "134_5", 0),
        ("3:4", "3:4", 1), ("3:4", "4:3", 0), ("3 : 4", "3:4", 1), ("1:2:3", "1:2:3", 1),
        ("1:2:3", "1:3:2", 0), (r"3\!:\!4", "3:4", 1),
    ],
    "reference notation": [
        ("2", "$2$", 1), (r"\frac{1}{2}", r"$\frac{1}{2}$", 1),
        ("(1,2),(3,4)", "$(1,2)$, $(3,4)$", 1), (r"2\sqrt{3}", r"$2 \sqrt{3}$", 1),
        ("2, 3", "$2$, $3$", 1), ("2, 4", "$2$,$3$", 0), ("18", "#### 18", 1),
        ("18", "6*3=18\n#### 18", 1), ("7", r"The answer is $\boxed{7}$", 1),
        ("17", r"$\boxed{7}$", 0), ("x=2", "$x=2$", 1), (r"\frac{5}{8}", r"\dfrac{5}{8}", 1),
        ("4", r"4 \mathrm{~cm}", 1), ("1:2", "$1:2$", 1),
    ],
    "several boxes": [
        (r"First \boxed{2}, then \boxed{3}.", "3", 1),
        (r"First \boxed{3}, then \boxed{2}.", "3", 0), (r"\boxed{1}\boxed{2}\boxed{3}", "3", 1),
        (r"Not \boxed{\text{none}} but \boxed{7}", "7", 1),
        (r"so $x=\boxed{2}$ and $y=\boxed{5}$", "5", 1), (r"\boxed{\boxed{8}}", "8", 1),
        (r"\fbox{8}", "8", 1), (r"The answer is \boxed 5.", "5", 1),
        (r"\boxed{\frac{1}{2}} is not it; \boxed{\frac{1}{3}}", "1/3", 1),
        (r"\boxed{\frac{1}{3}} or \boxed{\frac{1}{2}}?", "1/3", 0),
        (r"\boxed{4} \boxed{5} \boxed{4}", "5", 0),
        (r"\boxed{\{1,2\}} hence \boxed{\{1\}}", r"\{1\}", 1),
    ],
    "extraction": [
        (r"<think>maybe \boxed{9}</think>The answer is \boxed{10}.", "10", 1),
        (r"<think>\boxed{10}</think>The answer is ten.", "10", 0),
        (r"<think>so \boxed{10}", "10", 0), ("The answer is 10.", "10", 0),
        (r"**Answer:** \boxed{10}", "10", 1), (r"$$\boxed{10}$$", "10", 1),
        ("\\[\n\\boxed{10}\n\\]", "10", 1), ("\\boxed{10}\n\n<answer>11</answer>", "11", 1),
        ("<answer>10</answer> as was to be shown", "10", 1),
        (r"<answer>It is \boxed{10}</answer>", "10", 1), (r"\boxed{}", "10", 0),
        ("<answer>$10$</answer>", "10", 1), (r"\boxed{\,10\,}", "10", 1),
        ("\\boxed{\n10\n}", "10", 1), ("<answer>10</answer><answer>12</answer>", "10", 0),
        (r"<think>a</think>\boxed{10}<think>b</think>", "10", 0), (r"\boxed{10", "11", 0),
        (r"<think>long</think> \( \boxed{\frac{20}{2}} \)", "10", 1),
    ],
    "hedges and work left undone": [
        ("5+5", "10", 0), (r"\sum_{k=1}^{4}k", "10", 0), (r"\int_0^{10}dx", "10", 0),
        ("2^3+2", "10", 0), ("10 or 11", "10", 0), ("9,10,11", "10", 0), (r"\{10,11\}", "10", 0),
        ("[9,11]", "10", 0), ("x", "10", 0), ("10x", "10", 0), (r"\text{the answer}", "10", 0),
        ("9=10", "10", 0), (r"\lim_{n\to\infty} 10", "10", 0), ("the number of ways", "10", 0),
        ("?", "10", 0), (r"\ge 10", "10", 0), (r"10 \pm 1", "10", 0), ("10 to 12", "10", 0),
        (r"5\times 2", "10", 0), (r"\text{any number}", "10", 0), (r"\frac{1}{0}", "10", 0),
        (r"\infty - \infty", "0", 0), ("0/0", "0", 0), ("10 if x>0 else 11", "10", 0),
        ("10^{10}", "10", 0), ("10,", "10", 1), (r"\text{10 or 11}", "10", 0),
        ("between 9 and 11", "10", 0), ("10 (or maybe 11)", "10", 0),
    ],
}
# fmt: on
