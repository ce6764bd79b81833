#!/usr/bin/env bash
# NLTK 3.10.4: a text of sixty short sentences cannot be read one sentence at a time
#
# `span_tokenize` gives the sentences of a text one by one, and the caller works on each.
# Expected: how long the caller works on a sentence has no bearing on whether there is a next one.
# Happens: the splitter's pattern has a limit of 5 s of processor time for the whole walk, and the
#   caller's own work counts against it, as does that of every other thread of the process: after
#   5 s of it the next sentence is a TimeoutError about catastrophic backtracking. Waiting costs
#   nothing. `nltk.redos.DEFAULT_TIMEOUT = None` takes the limit away.
#
# Seen, with 0.25 s of work on each of the 60 sentences of "It is late. " * 60:
#   at once           60 sentences
#   work              20 sentences, then TimeoutError: regular-expression match exceeded its 5.0s ti
#   work elsewhere    20 sentences, then TimeoutError: regular-expression match exceeded its 5.0s ti
#   waiting           60 sentences
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    nltk==3.10.4 regex==2026.11.15 joblib==1.5.2 click==8.3.1 tqdm==4.67.1
cd "$work"
venv/bin/python - <<'EOF'
import sys
import threading
import time

from nltk.tokenize.punkt import PunktSentenceTokenizer

SENTENCES, WORK_S = 60, 0.25


def busy():
    until = time.process_time() + WORK_S
    while time.process_time() < until:
        pass


def busy_elsewhere():
    other = threading.Thread(target=busy)
    other.start()
    other.join()


def read(act):
    found = 0
    try:
        for _ in PunktSentenceTokenizer().span_tokenize("It is late. " * SENTENCES):
            found += 1
            act()
    except TimeoutError as error:
        return found, f"{found} sentences, then TimeoutError: {str(error)[:45]}"
    return found, f"{found} sentences"


is_same = True
for name, act, is_whole in [
    ("at once", lambda: None, True),
    ("work", busy, False),
    ("work elsewhere", busy_elsewhere, False),
    ("waiting", lambda: time.sleep(WORK_S), True),
]:
    found, seen = read(act)
    print(f"{name:17} {seen}")
    is_same &= (found == SENTENCES) == is_whole
if not is_same:
    sys.exit("changed: not what the head of this script states")
EOF
