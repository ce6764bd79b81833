"""Python values as JSON and back: what a call of a program under test takes and returns.

Plain data only, so that whoever reads it compares what it built itself, never an object of the
program's. Types that JSON lacks keep their names: `{"t": "tuple", "v": [...]}`. Linked lists and
binary trees (`val` with `next`, or with `left` and `right`) travel as their values, level by level.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

MAX_NODES = 100_000  # of a linked list or a tree: either may be a ring
MAX_DEPTH = 200


class ListNode:
    """A link of a list, as LeetCode has it.

    Args:
        val: Its value.
        next: The link after it, None at the end.
    """

    def __init__(self, val: Any = 0, next: Any = None) -> None:
        self.val, self.next = val, next


class TreeNode:
    """A node of a binary tree, as LeetCode has it.

    Args:
        val: Its value.
        left: The subtree on this side, None where there is none; `right` likewise.
    """

    def __init__(self, val: Any = 0, left: Any = None, right: Any = None) -> None:
        self.val, self.left, self.right = val, left, right


class Opaque:
    """Stands for a value that is no data; equal to nothing but itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


NODES: dict[str, Callable[..., Any]] = {"ListNode": ListNode, "TreeNode": TreeNode}


def encode(value: Any, depth: int = 0) -> Any:
    """Write a value as JSON has it; what is no data becomes its type's name.

    Args:
        value: Anything.
        depth: How deep it lies in the value that is being encoded.

    Raises:
        ValueError: Nested too deeply, or a list or tree that has no end.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"a value nested deeper than {MAX_DEPTH}")
    if value is None or type(value) in (bool, int, float, str):
        return value
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, list):
        return [encode(item, depth + 1) for item in value]
    if isinstance(value, dict):
        pairs = [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]
        return {"t": "dict", "v": pairs}
    for name, kind in (("tuple", tuple), ("set", set), ("frozenset", frozenset)):
        if isinstance(value, kind):
            return {"t": name, "v": [encode(item, depth + 1) for item in value]}
    if hasattr(value, "val") and hasattr(value, "next"):
        return {"t": "ListNode", "v": [encode(item, depth + 1) for item in _links(value)]}
    if hasattr(value, "val") and hasattr(value, "left"):
        return {"t": "TreeNode", "v": [encode(item, depth + 1) for item in _levels(value)]}
    return {"t": "opaque", "v": type(value).__name__}


def decode(data: Any, nodes: dict[str, Callable[..., Any]] = NODES, depth: int = 0) -> Any:
    """Build the value again, here.

    Args:
        data: What `json.loads` gave.
        nodes: Classes of list and tree nodes.
        depth: How deep it lies in the value that is being decoded.

    Raises:
        ValueError: It is not what `encode` makes.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"a value nested deeper than {MAX_DEPTH}")
    if isinstance(data, list):
        return [decode(item, nodes, depth + 1) for item in data]
    if not isinstance(data, dict):
        return data
    kind, content = data.get("t"), data.get("v")
    if kind == "opaque":
        return Opaque(str(content)[:80])
    if not isinstance(content, list):
        raise ValueError("no value")
    items = [decode(item, nodes, depth + 1) for item in content]
    try:
        if kind == "dict":
            return dict(items)
        if kind == "ListNode":
            return list_node(items, nodes["ListNode"])
        if kind == "TreeNode":
            return tree_node(items, nodes["TreeNode"])
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[str(kind)](items)
    except (TypeError, KeyError) as error:  # a key that cannot be hashed, a pair that is none
        raise ValueError(f"no value: {error}") from error


def as_json(value: Any) -> Any:
    """A decoded value with every sequence a list and every key a string, as JSON has them."""
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): as_json(v) for key, v in value.items()}
    return value


def list_node(items: list[Any], make: Callable[..., Any] = ListNode) -> Any:
    """Make a linked list of the items; None of none.

    Args:
        items: The links' values in their order.
        make: The class of its links, called with value and next link.
    """
    head = None
    for item in reversed(items):
        head = make(item, head)
    return head


def tree_node(items: list[Any], make: Callable[..., Any] = TreeNode) -> Any:
    """Make a binary tree from its levels.

    Args:
        items: The nodes' values level by level, None where a child is missing.
        make: The class of its nodes, called with the value.
    """
    if not items or items[0] is None:
        return None
    rest = iter(items)
    root = make(next(rest))
    parents = deque([root])
    while parents:
        parent = parents.popleft()
        for side in ("left", "right"):
            value = next(rest, None)
            if value is not None:
                child = make(value)
                setattr(parent, side, child)
                parents.append(child)
    return root


def _links(node: Any) -> list[Any]:
    found: list[Any] = []
    while node is not None:
        found.append(node.val)
        if len(found) > MAX_NODES:
            raise ValueError("a linked list without an end")
        node = node.next
    return found


def _levels(root: Any) -> list[Any]:
    found: list[Any] = []
    nodes = deque([root])
    while nodes:
        node = nodes.popleft()
        found.append(None if node is None else node.val)
        if len(found) > MAX_NODES:
            raise ValueError("a tree without an end")
        if node is not None:
            nodes += [node.left, node.right]
    while found and found[-1] is None:
        found.pop()
    return found
