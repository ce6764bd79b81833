"""How a user's reward function is called: by the names of its parameters.

Known are this project's `reward(prompt, response, reference)`, verl's `compute_score(data_source,
solution_str, ground_truth, extra_info)` with its plural form, and TRL's `reward(prompts,
completions, **columns)`; plural names are lists of one, for one response is judged at a time. Any
other name is a column of the data. Three parameters whose names say nothing come in the order
prompt, response, reference. Invariant: every call gets its own copy of the reference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

from oapl.errors import InputError

ORDER = ("prompt", "response", "reference")
ACCEPTED = (
    "accepted are reward(prompt, response, reference) by these names or in this order, "
    "verl's (data_source, solution_str, ground_truth, extra_info), "
    "TRL's (prompts, completions, **columns), and columns of the data by their names"
)
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
GROUND_TRUTH = ("ground_truth", "reference")
"""A name that says more than its place, and not something else."""
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is known of one response that is to be judged.

    Attributes:
        columns: Of the prompt's row, beside the prompt.
        source: The name of the prompt's data source.
    """

    prompt: str
    response: str
    columns: Mapping[str, Any]
    source: str = ""

    @property
    def reference(self) -> Any:
        """The answer where it is the only column, else all columns."""
        return self.columns["answer"] if set(self.columns) == {"answer"} else self.columns

    @property
    def ground_truth(self) -> Any:
        """The column of that name, verl's `reward_model.ground_truth`, or the answer."""
        nested = self.columns.get("reward_model")
        for table in (self.columns, nested if isinstance(nested, Mapping) else {}):
            if "ground_truth" in table:
                return table["ground_truth"]
        return self.columns.get("answer", self.reference)


_OF_THE_ROW = ("reference", "ground_truth", "data_source", "extra_info")
_ROLES: Mapping[str, str] = {
    **dict.fromkeys(("prompt", "question"), "prompt"),
    **dict.fromkeys(("response", "completion", "solution_str", "predict_str"), "response"),
    **{name: name for name in _OF_THE_ROW},
}
_PLURALS: Mapping[str, str] = {
    "prompts": "prompt",
    **dict.fromkeys(("completions", "solution_strs"), "response"),
    **{name: name for name in _OF_THE_ROW},
    **{f"{name}s": name for name in _OF_THE_ROW if name != "reference"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """What one parameter gets.

    Attributes:
        name: The parameter's.
        role: What it is by its name or place; empty for a column.
        by_column: A column of this name goes before the role.
        is_required: It has no default.
        is_positional: It cannot be passed by name.
    """

    name: str
    role: str = ""
    by_column: bool = False
    is_required: bool = True
    is_positional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How a function is called.

    Attributes:
        arguments: In order.
        takes_columns: All columns that no parameter names go into `**kwargs`.
        is_batch: Everything is passed in lists of one, and a list of one reward comes back.
    """

    arguments: tuple[Argument, ...]
    takes_columns: bool = False
    is_batch: bool = False

    def reward(self, function: Callable[..., Any], asked: Asked) -> Any:
        """Call the function.

        Args:
            function: The user's; an `async def` gives an awaitable.
            asked: The response; what the function does to its columns stays with this call.

        Raises:
            InputError: A column that it names is not there.
        """
        asked = Asked(
            prompt=asked.prompt,
            response=asked.response,
            columns=copy.deepcopy(dict(asked.columns)),
            source=asked.source,
        )
        places: list[Any] = []
        names: dict[str, Any] = {}
        for argument in self.arguments:
            value = _value(argument, asked)
            if value is _ABSENT:
                continue
            if argument.is_positional:
                places.append(self._form(value))
            else:
                names[argument.name] = self._form(value)
        if self.takes_columns:
            taken = {argument.name for argument in self.arguments}
            rest = {name: value for name, value in asked.columns.items() if name not in taken}
            names |= {str(name): self._form(value) for name, value in rest.items()}
        return function(*places, **names)

    def _form(self, value: Any) -> Any:
        return [value] if self.is_batch else value


def call_of(signature: Signature) -> Call:
    """Find out how a function wants to be called.

    Raises:
        InputError: Its parameters tell of no form that is known; says which are.
    """
    every = signature.parameters.values()
    has_rest = any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in every)
    takes_columns = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in every)
    named = [parameter for parameter in every if parameter.kind not in _VARIADIC]
    is_batch = any(_PLURALS.get(parameter.name) == "response" for parameter in named)
    roles = {p.name: (_PLURALS if is_batch else _ROLES).get(p.name, "") for p in named}
    places = None if is_batch else _places(named, roles, has_rest=has_rest)
    if places is not None and has_rest:
        return Call(arguments=tuple(Argument(name=r, role=r, is_positional=True) for r in ORDER))
    if not is_batch and places is None and "response" not in roles.values():
        raise InputError(
            f"takes {len(named)} parameters ({', '.join(map(str, every))}), of which none is known "
            f"to be the response; {ACCEPTED}"
        )
    arguments = (_argument(one, roles[one.name], (places or {}).get(one.name, "")) for one in named)
    return Call(arguments=tuple(arguments), takes_columns=takes_columns, is_batch=is_batch)


def _places(
    named: Sequence[Parameter], roles: Mapping[str, str], *, has_rest: bool
) -> dict[str, str] | None:
    """What each of the first three parameters is by the order; None where that cannot tell."""
    positional = [one for one in named if one.kind in _POSITIONAL]
    first = positional[: len(ORDER)]
    others = [one for one in named if one not in first]
    if not has_rest and len(first) < len(ORDER):
        return None
    places = dict(zip((one.name for one in first), ORDER, strict=False))
    says_otherwise = any(
        roles[name] and roles[name] != place and (roles[name], place) != GROUND_TRUTH
        for name, place in places.items()
    )
    is_told_by_others = any(_is_required(one) or roles[one.name] == "response" for one in others)
    return None if says_otherwise or is_told_by_others else places


def _argument(parameter: Parameter, role: str, place: str) -> Argument:
    return Argument(
        name=parameter.name,
        role=role or place,
        by_column=not role and place != "response",
        is_required=_is_required(parameter),
        is_positional=parameter.kind is Parameter.POSITIONAL_ONLY,
    )


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty


def _value(argument: Argument, asked: Asked) -> Any:
    """What an argument is given; `_ABSENT` leaves it at its default."""
    columns = asked.columns
    if argument.by_column and argument.name in columns:
        return columns[argument.name]
    match argument.role:
        case "data_source":
            return columns.get("data_source", asked.source)
        case "extra_info":
            return columns.get("extra_info", columns)
        case "":
            if not argument.is_required:
                return _ABSENT
            raise InputError(
                f"the reward function asks for the column {argument.name!r}; the columns beside "
                f"the prompt are {', '.join(map(str, columns)) or 'none'}; {ACCEPTED}"
            )
        case role:
            return getattr(asked, role)
