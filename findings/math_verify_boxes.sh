#!/usr/bin/env bash
# math-verify 0.9.0 (latex2sympy2_extended 1.11.0): a comma decides whether the last box counts
#
# A response boxes one number, corrects itself and boxes another.
# Expected: the last box is the answer; or, by another rule, the first, both or neither.
# Happens: two boxes become one set when fewer than 10 characters stand between them, or fewer than
#   70 with a comma, a semicolon, "and" or "or" somewhere among them. Then 4 is no longer right, and
#   a response that took its first number back is right where {3, 4} or (3, 4) was asked for.
#
# Seen: the right answer, the response, what verify says, what parse made of it
#   4        \boxed{3} is wrong. It must be \boxed{4}.     True  4
#   4        \boxed{3} is wrong, so it must be \boxed{4}.  False {3, 4}
#   4        \boxed{3} is wrong and must be \boxed{4}.     False {3, 4}
#   4        \boxed{3}? No: \boxed{4}.                     False {3, 4}
#   \{3,4\}  \boxed{3} is wrong, so it must be \boxed{4}.  True  {3, 4}
#   (3,4)    \boxed{3} is wrong, so it must be \boxed{4}.  True  {3, 4}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 antlr4-python3-runtime==4.13.2 \
    sympy==1.14.0 mpmath==1.3.0
cd "$work"
venv/bin/python - <<'EOF'
import sys

from math_verify import parse, verify

is_same = True
for gold, response, seen in [
    ("4", r"\boxed{3} is wrong. It must be \boxed{4}.", True),
    ("4", r"\boxed{3} is wrong, so it must be \boxed{4}.", False),
    ("4", r"\boxed{3} is wrong and must be \boxed{4}.", False),
    ("4", r"\boxed{3}? No: \boxed{4}.", False),
    (r"\{3,4\}", r"\boxed{3} is wrong, so it must be \boxed{4}.", True),
    ("(3,4)", r"\boxed{3} is wrong, so it must be \boxed{4}.", True),
]:
    answer = parse(response)
    is_right = verify(parse(f"${gold}$"), answer)
    print(f"{gold:8} {response:45} {is_right!s:5} {answer[0]}")
    is_same &= is_right == seen
if not is_same:
    sys.exit("changed: not what the head of this script states")
EOF
