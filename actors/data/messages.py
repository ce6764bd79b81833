"""Chat messages and tools, as data sets write them and as chat templates read them.

Every key of a message reaches the template; null, which a table writes for what a row lacks, is no
key. Content in parts is joined where all are text; what a text cannot hold is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from oapl.errors import InputError

SHOWN = 60
"""Characters of a bad value in its error."""
MAY_BE_BLANK = ("system", "developer", "tool")
"""Roles whose message may say nothing: no instructions, a tool without output."""

Messages = tuple[Mapping[str, Any], ...]


def read(value: Sequence[Any], place: str) -> Messages:
    """Read a list of messages: role, content as text, and whatever else the template may want.

    Args:
        value: One object per message.
        place: Of the list, for errors.

    Raises:
        InputError: One is no message, or holds what cannot be written; the place is named.
    """
    return tuple(_message(one, f"{place}, message {n}") for n, one in enumerate(value, 1))


def read_tools(value: Any, place: str) -> tuple[Mapping[str, Any], ...]:
    """Read a list of tools, each a JSON schema with a name; JSON text of one is read, too.

    Args:
        value: The list; nothing, where there are no tools.
        place: For errors.

    Raises:
        InputError: It is no such list.
    """
    found = _parsed(value)
    if not found:
        return ()
    tools = [_parsed(tool) for tool in found] if isinstance(found, list | tuple) else [None]
    if not all(isinstance(tool, Mapping) and tool_name(tool) for tool in tools):
        raise InputError(
            f"{place} is {repr(value)[:SHOWN]}; it must be a list of JSON schemas, each with the "
            "name of a function; rename the column if it means something else"
        )
    return tuple(without_null(tool) for tool in tools)


def tool_name(tool: Mapping[str, Any]) -> str:
    """The name of a tool, or of the tool that is called; empty where it has none."""
    function = tool.get("function")
    name = (function if isinstance(function, Mapping) else tool).get("name")
    return name if isinstance(name, str) else ""


def without_null(value: Any) -> Any:
    """The value without null fields, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_null(inner) for key, inner in value.items() if inner is not None}
    return [without_null(item) for item in value] if isinstance(value, list | tuple) else value


def _message(value: Any, place: str) -> Mapping[str, Any]:
    role = value.get("role") if isinstance(value, Mapping) else None
    if not isinstance(role, str) or not role.strip():
        raise InputError(
            f"{place}: a chat prompt must be a list of messages, each with role and content in "
            f"text; this one is {repr(value)[:SHOWN]}"
        )
    found = without_null(value)
    content = read_content(value.get("content"), place)
    if calls := found.pop("tool_calls", None):
        found["tool_calls"] = _calls(calls, place)
    elif not content.strip() and role not in MAY_BE_BLANK:
        raise InputError(
            f"{place}: the content of role {role!r} is {repr(value.get('content'))[:SHOWN]}; it "
            "must be text that is not blank; leave the message or the row out"
        )
    return {**found, "content": content}


def read_content(value: Any, place: str) -> str:
    """Read what a message says; parts of text are joined.

    Args:
        value: Text, a list of parts, or nothing.
        place: Of the message, for errors.

    Raises:
        InputError: A part is no text.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list | tuple):
        raise InputError(
            f"{place}: a chat prompt must be a list of messages, each with role and content in "
            f"text; this content is {repr(value)[:SHOWN]}"
        )
    for number, part in enumerate(value, 1):
        is_object = isinstance(part, Mapping)
        if not (is_object and part.get("type") == "text" and isinstance(part.get("text"), str)):
            kind = repr(part.get("type")) if is_object else repr(part)[:SHOWN]
            raise InputError(
                f"{place}: part {number} of its content is {kind}, and only parts of type 'text' "
                "can be given to a language model; leave the part or the row out"
            )
    return "".join(part["text"] for part in value)


def _calls(value: Any, place: str) -> list[Mapping[str, Any]]:
    """Calls of tools; arguments in JSON text, as servers write them, become the object that chat
    templates write as JSON themselves."""
    calls = _parsed(value)
    if not isinstance(calls, list) or not all(
        isinstance(call, Mapping) and tool_name(call) for call in calls
    ):
        raise InputError(
            f"{place}: tool_calls is {repr(value)[:SHOWN]}; it must be a list of calls, each with "
            "the name of a function and its arguments"
        )
    return [_with_arguments(call) for call in calls]


def _with_arguments(call: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _with_arguments(call["function"])}
    arguments = _parsed(call.get("arguments"))
    return {**call, "arguments": arguments} if isinstance(arguments, Mapping) else call


def _parsed(value: Any) -> Any:
    """What JSON text says; everything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        return value
