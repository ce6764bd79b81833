"""How a response ends: with one token, at which the engine stops.

Behind an assistant's turn a chat template writes the end of the turn, and perhaps a line break. Of
these the model samples the first at which the engine stops, and nothing after it. So what is
imitated ends with that token, or, where the engine stops at nothing that the template writes, with
the tokenizer's EOS.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.data.problems import Problem
from actors.data.templates import Template
from actors.data.tokenizer import stops_of
from oapl.config import RunConfig
from oapl.errors import InputError

SAID = "Yes."
"""An answer behind which a template is looked at."""


class Endings:
    """Ends the token ids of responses.

    Args:
        template: Writes the prompts.
        config: Names the model, which may know more tokens that end a response than EOS.

    Attributes:
        end: The token with which a response ends.
    """

    def __init__(self, template: Template, config: RunConfig) -> None:
        self._template = template
        self._tokenizer = template.tokenizer
        self._stops = stops_of(self._tokenizer, config)
        written = self._written()
        self.end = int(self._tokenizer.eos_token_id) if written is None else written

    def _written(self) -> int | None:
        """The first token behind an answer at which the engine stops, as the template writes it."""
        if self._template.name != "chat":
            return None
        asked = Problem(source="", index=0, place="the template", prompt="Well?", reference={})
        try:
            text = self._template.render_answered(asked, {"role": "assistant", "content": SAID})
        except InputError:  # it wants other messages than these
            return None
        behind = text.rpartition(SAID)[2]
        ids = self._tokenizer(behind, add_special_tokens=False, verbose=False)["input_ids"]
        return next((int(token) for token in ids if token in self._stops), None)

    def closed(self, ids: Sequence[int]) -> list[int]:
        """End a response that came to its end.

        Args:
            ids: Its tokens [T]; where they have an end already it stays, without the blanks that a
                template has written behind it.

        Raises:
            ValueError: It goes on behind an end, where the engine would have stopped.
        """
        at = self.place_of_end(ids)
        if at is None:
            return [*ids, self.end]
        behind = [token for token in ids[at + 1 :] if token not in self._stops]
        if self._tokenizer.decode(behind, clean_up_tokenization_spaces=False).strip():
            raise ValueError(
                f"goes on behind {self.text_of(ids[at])!r}, at which the engine stops; take that, "
                "or what follows it, out of the text"
            )
        return list(ids[: at + 1])

    def place_of_end(self, ids: Sequence[int]) -> int | None:
        """Where in a response, [T], the engine would have stopped; None where it would not."""
        return next((place for place, token in enumerate(ids) if token in self._stops), None)

    def text_of(self, token: int) -> str:
        """How an end reads."""
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))
