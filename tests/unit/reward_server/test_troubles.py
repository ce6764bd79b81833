"""What keeps a verifier from judging is told once per sort; one that never judges is named."""

import pytest

from reward_server.troubles import MAX_SORTS, Troubles
from tests.support.judging import HOSTILE, deed, server


async def told(troubles):
    return [(one.verifier, one.kind, one.detail, one.in_vain) for one in await troubles.take(0.0)]


@pytest.mark.parametrize(
    ("details", "first"),
    [
        (["KeyError: 'a' (mine.py:2)", "KeyError: 'b' (mine.py:31)"], 1),
        (["KeyError: 'a' (mine.py:2)", "TypeError: 'a' (mine.py:2)"], 2),
        (["KeyError: 'a' (mine.py:2)", "KeyError: 'a' (other.py:2)"], 2),
        (["prompt s:1@0 has no answer", "prompt s:22@1 has no answer"], 1),
        ([f"{letter * 3}Error" for letter in "abcdefghijklmnop"], MAX_SORTS),
    ],
)
async def test_the_first_of_each_sort_is_told_once(details, first):
    troubles = Troubles(1000)
    for number, detail in enumerate(details * 2):
        troubles.failed("mine", f"p:{number}", "error", detail)
    assert await told(troubles) == [("mine", "error", detail, 0) for detail in details[:first]]
    assert await told(troubles) == []


async def test_kinds_and_verifiers_are_told_apart():
    troubles = Troubles(1000)
    for verifier, kind in (("a", "error"), ("b", "error"), ("a", "timeout"), ("a", "error")):
        troubles.failed(verifier, "p:0", kind, "why")
    assert [one[:2] for one in await told(troubles)] == [
        ("a", "error"),
        ("b", "error"),
        ("a", "timeout"),
    ]


async def test_a_row_of_failures_as_long_as_allowed_is_in_vain_and_a_verdict_ends_it():
    troubles = Troubles(4)
    for number in range(3):
        troubles.failed("mine", f"p:{number}", "error", "why")
    troubles.failed("other", "p:0", "error", "why")
    troubles.worked("mine")
    for number in range(4):
        assert all(not one[3] for one in await told(troubles))
        troubles.failed("mine", f"p:{number}", "timeout", "why")
    assert await told(troubles) == [("mine", "timeout", "why", 4)]


async def test_one_prompt_that_nobody_can_judge_is_not_in_vain():
    troubles = Troubles(4)
    for _ in range(9):
        troubles.failed("mine", "p:0", "error", "why")
    assert all(not one[3] for one in await told(troubles))
    troubles.failed("mine", "p:1", "error", "why")
    assert (await told(troubles))[-1][3] == 10


@pytest.mark.parametrize(
    ("do", "kind"), [("raise", "error"), ("loop", "timeout"), ("segfault", "runtime_error")]
)
async def test_the_server_tells_who_asks_as_it_comes(do, kind):
    async with server({HOSTILE: 1.0}, deadline_s=0.5) as running:
        await running.score([deed("nothing"), deed(do), deed("nothing")])
        (trouble,) = await running.troubles(60.0)
        assert await running.troubles(0.0) == []
    assert (trouble.verifier, trouble.kind, trouble.in_vain) == (HOSTILE, kind, 0)
