#!/usr/bin/env bash
# math-verify 0.9.0: any equation is judged by its right-hand side alone
#
# Expected: `x=5` may stand for 5. `2x=5`, `x^2=5`, `x+1=5` do not, and `1=5` is false.
# Happens: where the right answer is a number, whatever stands left of the last equality sign is
#   dropped, so all of them are right: a policy is paid for equations that it has not solved.
#   `5=x` is wrong.
#
# Seen: the right answer, the response, what verify says
#   5      \boxed{x=5}      True
#   5      \boxed{2x=5}     True
#   5      \boxed{x^2=5}    True
#   5      \boxed{x+1=5}    True
#   5      \boxed{1=5}      True
#   5      \boxed{5=x}      False
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
    ("5", r"\boxed{x=5}", True),
    ("5", r"\boxed{2x=5}", True),
    ("5", r"\boxed{x^2=5}", True),
    ("5", r"\boxed{x+1=5}", True),
    ("5", r"\boxed{1=5}", True),
    ("5", r"\boxed{5=x}", False),
]:
    is_right = verify(parse(f"${gold}$"), parse(response))
    print(f"{gold:6} {response:16} {is_right}")
    is_same &= is_right == seen
if not is_same:
    sys.exit("changed: not what the head of this script states")
EOF
