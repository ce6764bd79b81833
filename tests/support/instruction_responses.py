"""Responses to IFEval prompts: some follow, some nearly do, some are odd."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]

PROSE = (
    "The river rose in the night. Nobody had expected it, least of all Mr. Brown, who slept.",
    "Call me at 5 p.m. on Jan. 3rd! Is that O.K.? I hope so... The U.S. team won 3.5 to 2.",
    "it rained for days and the small boats stayed in the harbour while we waited for the sun",
    "THE SHOP IS OPEN FROM NINE TO FIVE AND THE STREET IS QUIET ON MOST DAYS OF THE WEEK",
    "NASA and the EU signed A NEW treaty; IBM (a company) did not. I said: OK!",
    "'Tis CANnot GIMme GoNNA; 'TWAS I'M ÉCLAIR Éa O'NEIL's A.B.C. ABC中 iPHONE X-RAY DON'T",
    "My answer is yes.",
    '"All of this stands in quotation marks, every single word of it."',
    "<<A Title of Some Kind>>\n\nAnd then the text that goes with it follows here.",
    '{"name": "Ann", "tags": ["a", "b"], "age": 31}',
    '```json\n{"name": "Ann"}\n```',
    "* one\n* two\n - three\n** not one\n\n\n*\nfour\n-five",
    "*first part* and **second part** and ** ** and *third\npart* **",
    "Dear [name],\nyour [item] was sent to [address [old]] ] [\n[date\n]",
    "Section 1\nThe first.\nSECTION 2\nThe second.\nPARAGRAPH 3 Audience 4Section5",
    "First thought.\n***\nSecond thought.\n\n***\n\nThird thought.",
    "One answer.\n******\nAnother answer.",
    "Same.\n******\nSame.",
    "weekend plans are made.\n\n'\"Summary, of it all.\n\n\n\nThe end.",
    "Es war einmal ein König, der hatte eine Tochter. Sie lebten in einem Schloss am Meer.",
    "Había una vez un rey que tenía una hija. Vivían en un castillo junto al mar.",
    "Жил-был царь, и была у него дочь. Они жили в замке у моря.",
    "एक समय की बात है, एक राजा था। उसकी एक बेटी थी।",
    "むかしむかし、あるところに王様がいました。",
    "P.S. I forgot something.\nP.P.S. And this as well. p. s.",
    "1 2 3 4 5 , ; : 6",
    "…\u00a0« Bonjour ! » dit-il ?! Non.. Si.\u2028Et alors\x85?",
    "",
    " \n\n ",
)

TALES = {
    "ar": "كان يا ما كان في قديم الزمان ملك له ابنة",
    "bg": "Имало едно време един цар, който имал дъщеря",
    "bn": "এক দেশে এক রাজা ছিল, তার এক মেয়ে ছিল",
    "de": "Es war einmal ein König, der hatte eine Tochter",
    "fa": "روزی روزگاری پادشاهی بود که دختری داشت",
    "fi": "Olipa kerran kuningas, jolla oli tytär",
    "gu": "એક સમયની વાત છે, એક રાજા હતો",
    "hi": "एक समय की बात है, एक राजा था और उसकी एक बेटी थी",
    "it": "C'era una volta un re che aveva una figlia",
    "kn": "ಒಂದಾನೊಂದು ಕಾಲದಲ್ಲಿ ಒಬ್ಬ ರಾಜ ಇದ್ದನು",
    "ko": "옛날 옛적에 딸을 둔 왕이 살았습니다",
    "mr": "एकदा एक राजा होता आणि त्याला एक मुलगी होती",
    "ne": "एकादेशमा एउटा राजा थिए र उनकी एउटी छोरी थिइन्",
    "pa": "ਇੱਕ ਵਾਰ ਦੀ ਗੱਲ ਹੈ, ਇੱਕ ਰਾਜਾ ਸੀ",
    "pt": "Era uma vez um rei que tinha uma filha e morava num castelo",
    "ru": "Жил-был царь, и была у него дочь",
    "sw": "Hapo zamani za kale palikuwa na mfalme aliyekuwa na binti",
    "te": "ఒకప్పుడు ఒక రాజు ఉండేవాడు",
    "th": "กาลครั้งหนึ่งนานมาแล้วมีพระราชาองค์หนึ่ง",
    "ur": "ایک دفعہ کا ذکر ہے کہ ایک بادشاہ تھا",
    "vi": "Ngày xửa ngày xưa có một vị vua và con gái của ông",
}


def responses(row: Row, chance: random.Random, count: int) -> Iterator[str]:
    """`count` responses: the first ones try to follow all of the row's instructions."""
    for number in range(count):
        text = chance.choice(PROSE)
        for _ in range(chance.randrange(4)):
            text += chance.choice([" ", "\n", "\n\n", ". "]) + chance.choice(PROSE)
        said = list(zip(row["instruction_id_list"], row["kwargs"], strict=True))
        if number % 3 == 2:
            said = said[: chance.randrange(len(said) + 1)]
        for kind, options in said:
            attempt = ATTEMPTS.get(kind.partition(":")[2])
            if attempt:
                text = attempt(text, options, chance)
        yield text if chance.random() < 0.8 else _spoilt(text, chance)


def _near(bound: int, chance: random.Random) -> int:
    return max(0, bound + chance.choice([-1, 0, 0, 1]))


def _times(piece: str, bound: int, chance: random.Random, between: str = " ") -> str:
    return between.join([piece] * _near(bound, chance))


def _spoilt(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text) + 1)
    noise = chance.choice(
        [",", "*", "\n\n", "\n", '"', "***", "******", "\ud800", "\x00", "é", "."]
    )
    return text[:place] + noise + text[place + chance.randrange(3) :]


def _sentences(text: str, o: Mapping[str, Any], chance: random.Random) -> str:
    ends = chance.choice([". ", "! ", "? ", ".\n"])
    return "".join(f"It was number {i}{ends}" for i in range(_near(o["num_sentences"], chance)))


def _paragraphs(text: str, o: Mapping[str, Any], chance: random.Random) -> str:
    parts = [f"Part {i}." for i in range(_near(o["num_paragraphs"], chance))]
    return chance.choice(["\n***\n", "***", "\n\n***\n\n"]).join(parts)


def _first_word(text: str, o: Mapping[str, Any], chance: random.Random) -> str:
    parts = [f"Part {i}." for i in range(_near(o["num_paragraphs"], chance))]
    if len(parts) >= o["nth_paragraph"]:
        form = chance.choice(["{}", '"{}', "{}, so", "'{}'s", "{}x"])
        parts[o["nth_paragraph"] - 1] = form.format(o["first_word"].title()) + " it was."
    return "\n\n".join(parts) + chance.choice(["", "\n\n", "\n\n\n"])


def _json(text: str, o: Mapping[str, Any], chance: random.Random) -> str:
    body = json.dumps({"text": text}, indent=chance.choice([None, 2]))
    return chance.choice(["{}", "```json\n{}\n```", "```\n{}```", "Here: {}"]).format(body)


Attempt = Callable[[str, Mapping[str, Any], random.Random], str]
ATTEMPTS: dict[str, Attempt] = {
    "existence": lambda t, o, c: f"{t} {' '.join(o['keywords'])}".replace("  ", " "),
    "frequency": lambda t, o, c: f"{t} {_times(o['keyword'], o['frequency'], c)}",
    "forbidden_words": lambda t, o, c: (
        t + c.choice(["", " ", "x"]) + c.choice(o["forbidden_words"])
    ),
    "letter_frequency": lambda t, o, c: f"{t} {_times(o['letter'], o['let_frequency'], c)}",
    "response_language": lambda t, o, c: (
        f"{TALES[o['language']]}. {c.choice(['', '', 'The end.'])}"
    ),
    "number_sentences": _sentences,
    "number_words": lambda t, o, c: _times(c.choice(["word", "it's"]), o["num_words"], c),
    "number_paragraphs": _paragraphs,
    "nth_paragraph_first_word": _first_word,
    "number_placeholders": lambda t, o, c: f"{t} {_times('[name]', o['num_placeholders'], c)}",
    "postscript": lambda t, o, c: f"{t}\n\n{o['postscript_marker']} bye",
    "number_bullet_lists": lambda t, o, c: _times(
        c.choice(["* a", "- b"]), o["num_bullets"], c, "\n"
    ),
    "constrained_response": lambda t, o, c: f"{t} My answer is maybe.",
    "number_highlighted_sections": lambda t, o, c: (
        f"{t} {_times(c.choice(['*a b*', '**a b**', '**', '* *']), o['num_highlights'], c)}"
    ),
    "multiple_sections": lambda t, o, c: "\n".join(
        f"{o['section_spliter']} {i}\n{t}" for i in range(_near(o["num_sections"], c))
    ),
    "json_format": _json,
    "title": lambda t, o, c: f"<<{c.choice(['T', '', '<', 'A title'])}>>\n{t}",
    "two_responses": lambda t, o, c: f"{t}\n******\n{c.choice(PROSE)}",
    "repeat_prompt": lambda t, o, c: f"{o['prompt_to_repeat']}\n{t}",
    "end_checker": lambda t, o, c: f"{t} {o['end_phrase']}" + c.choice(["", '"', " ", "."]),
    "capital_word_frequency": lambda t, o, c: f"{t} {_times('BIG', o['capital_frequency'], c)}",
    "english_capital": lambda t, o, c: t.upper(),
    "english_lowercase": lambda t, o, c: t.lower(),
    "no_comma": lambda t, o, c: t.replace(",", ""),
    "quotation": lambda t, o, c: f'"{t}"',
}
