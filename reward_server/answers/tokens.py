r"""A cleaned answer cut into tokens, after rare spellings are made usual ones.

A token is a numeral, a run of letters, a command, primes or a sign. Spaces part tokens and are
gone; a run of letters that is the name of a function becomes its command.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reward_server.answers import numerals
from reward_server.answers.commands import FUNCTIONS, OF_SEVERAL

_OF_WORDS = {name[1:] for name in OF_SEVERAL}
_WRITTEN_OUT = {name[1:] for name in FUNCTIONS}

_SPELLINGS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\substack ?\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1"),
        (r"\\(?:mathbf|boldsymbol|bm|mathrm|mathit|mathsf)(?![a-zA-Z]) ?(?=\{|\\?[a-zA-Z])", ""),
        (r"\\[dt]?binom ?([0-9a-zA-Z]) ?([0-9a-zA-Z])", r"\\binom{\1}{\2}"),
        (r"\\var(phi|theta|epsilon|rho|sigma|kappa)(?![a-zA-Z])", r"\\\1"),
        (r"\( ?\\?(?:mod|bmod|pmod)(?![a-zA-Z]) ?([^()]*)\)", r"\\pmod{\1}"),
        (r"\\mod(?![a-zA-Z])|(?<![a-zA-Z\\])mod(?![a-zA-Z])", r"\\bmod"),
        (r"(?<![a-zA-Z\\])d([a-zA-Z]) ?/ ?d([a-zA-Z])(?![a-zA-Z])", r"\\frac{d\1}{d\2}"),
        (r"(?:\{ ?\} ?|^ ?|(?<=[=+\-(]) ?)[_^] ?\{? ?(\w+) ?\}? ?([CP]) ?_ ?\{? ?(\w+) ?\}?",
         r"\\\2{\1}{\3}"),
        (r"(?<![a-zA-Z\\])([CPA]) ?_ ?\{? ?(\d+) ?\}? ?\^ ?\{? ?(\d+) ?\}?", r"\\\1{\2}{\3}"),
        (r"(?<![a-zA-Z\\])([CP]) ?\( ?(\w+) ?, ?(\w+) ?\)", r"\\\1{\2}{\3}"),
        (r"([_^]) ?(\d)(?= )", r"\1{\2}"),
        (r"(?<![a-zA-Z\\])(floor|ceil)(?:ing)? ?\(([^()]*)\)", r"\\l\1 \2 \\r\1 "),
        (r"\\(?:[lr]?Vert|\|)", r"\\Vert "),
        (r"\\[lr]?vert(?![a-zA-Z])", "|"),
        (r"\\l?dots[bcio]?(?![a-zA-Z])", r"\\dots"),
        (r"\\(?:overline|widebar)(?![a-zA-Z])", r"\\bar"),
        (r"\\overrightarrow(?![a-zA-Z])", r"\\vec"),
        (r"\\wide(hat|tilde)(?![a-zA-Z])", r"\\\1"),
        (r"\\intercal(?![a-zA-Z])", r"\\top"),
        (r"\\(?:ast|star)(?![a-zA-Z])", "*"),
    )
)  # fmt: skip
_REPEATING = r"\d*\.\d*\\bar ?\{ ?\d+ ?\}"
_TOKEN = re.compile(
    rf"(?P<number>{_REPEATING}|{numerals.PLAIN})|(?P<letters>[a-zA-Z]+)|(?P<command>\\[a-zA-Z]+|\\.)"
    r"|(?P<sign>'+|!!(?![!=])|\S)"
)
_HEDGES = {"or", "and", "to", "if", "for", "when", "where", "then", "else"}
_OPENING, _CLOSING = ("(", "[", "{", r"\{"), (")", "]", "}", r"\}")
MAX_RUN = 6


class Unread(ValueError):
    """What stands there is not known to have one meaning."""


def cut(text: str) -> list[str]:
    """The tokens of a cleaned text.

    Raises:
        Unread: There are words in it.
    """
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if match.lastgroup != "letters":
            found.append(token)
        elif token in _WRITTEN_OUT or token.lower() in _OF_WORDS:
            found.append(rf"\{token.lower()}")
        elif token in _HEDGES or len(token) > MAX_RUN or _is_called(match):
            raise Unread(f"{token[:40]} is a word")
        else:
            found += token
    return found


def _is_called(run: re.Match[str]) -> bool:
    """Whether letters are the name of a function that nobody knows: `sgn(x)`."""
    return len(run.group()) > 2 and run.group().islower() and run.string[run.end() :][:1] == "("


def number_of(token: str) -> numerals.Number | None:
    """The value of a token that is a numeral."""
    if not token[:1].isdigit() and token[:1] != ".":
        return None
    return numerals.number(token.replace(r"\bar", r"\overline"))


def joined(tokens: list[str]) -> str:
    """One spelling for tokens: no spaces, and no braces around a single one."""
    kept = list(tokens)
    for at in range(len(kept) - 2):
        if kept[at] == "{" and kept[at + 2] == "}":
            kept[at] = kept[at + 2] = ""
    return " ".join(token for token in kept if token)


class Cursor:
    """Tokens, and where in them a reader stands."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    @property
    def now(self) -> str:
        """The next token; empty at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    @property
    def before(self) -> str:
        """The token that was taken last."""
        return self.tokens[self.at - 1] if self.at else ""

    def next(self) -> str:
        """Take a token, whatever it is.

        Raises:
            Unread: There is none left.
        """
        if not self.now:
            raise Unread("nothing where something should be")
        self.at += 1
        return self.before

    def take(self, *wanted: str) -> bool:
        """Take the next token if it is one of these."""
        is_there = self.now != "" and self.now in wanted
        self.at += is_there
        return is_there

    def need(self, token: str) -> None:
        """Take this token.

        Raises:
            Unread: Another one stands there.
        """
        if not self.take(token):
            raise Unread(f"{token} is missing")

    def group(self) -> list[str]:
        """Take what stands between braces, or one token, as it is.

        Raises:
            Unread: There is no end to it, or nothing in it.
        """
        if not self.take("{"):
            return [self.next()]
        start, depth = self.at, 1
        while depth and self.now:
            token = self.next()
            depth += (token == "{") - (token == "}")
        if depth or self.at - 1 == start:
            raise Unread("braces without an end, or with nothing in them")
        return self.tokens[start : self.at - 1]

    def find(self, is_wanted: Callable[[int], bool]) -> int | None:
        """Where from here on, outside of brackets that open here, something first stands.

        Args:
            is_wanted: Of an index into the tokens.
        """
        depth = 0
        for index in range(self.at, len(self.tokens)):
            if not depth and is_wanted(index):
                return index
            depth += (self.tokens[index] in _OPENING) - (self.tokens[index] in _CLOSING)
            if depth < 0:
                break
        return None
