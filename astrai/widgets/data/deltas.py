"""The difference between two JSON values, small and quick to apply. ``static/player.js`` applies the same form.

A delta mirrors the value that it changes, and says at each place what becomes of it:

- an int: add it to the number there;
- ``[value]``: put this value there; ``[]``: remove the key;
- ``[drop, tail]``: drop so many items (of a string: characters) from the front, append ``tail``;
- ``[start, count, items]``: in the list there, put ``items`` in the place of ``count`` items from ``start`` on;
- ``{key: delta, ...}``: change what stands under these keys of an object, or under these indices (as strings) of a
  list; ``{}`` changes nothing.

Example:
    >>> diff({"len": 7, "ids": [5, 8]}, {"len": 8, "ids": [5, 8, 3]})
    {'len': 1, 'ids': [0, [3]]}
    >>> patch({"len": 7, "ids": [5, 8]}, {"len": 1, "ids": [0, [3]]})
    {'len': 8, 'ids': [5, 8, 3]}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Delta = int | list[Any] | dict[str, Any]
SAFE = 2**53  # JavaScript counts no further without gaps


def diff(before: Any, after: Any) -> Delta:
    """What turns ``before`` into ``after``. Both stay as they are; the delta shares parts of ``after``.

    Values at the same place must not go back and forth between a truth value and a number: Python calls them equal.
    """
    return {} if type(before) is type(after) and before == after else _change(before, after)


def patch(value: Any, delta: Delta) -> Any:
    """The value with a delta applied. It shares unchanged parts with ``value``, which stays as it is."""
    if isinstance(delta, int):
        return value + delta
    if isinstance(delta, list):
        return _put(value, *delta)
    if not delta:
        return value
    changed = value.copy()
    for key, change in delta.items():
        if isinstance(value, list):
            changed[int(key)] = patch(value[int(key)], change)
        elif change == []:
            del changed[key]
        else:
            changed[key] = patch(value.get(key), change)
    return changed


def _put(value: Any, *change: Any) -> Any:
    if len(change) == 1:
        return change[0]
    if len(change) == 2:
        drop, tail = change
        return value[drop:] + tail
    start, count, items = change
    return value[:start] + items + value[start + count :]


# --- finding the difference -------------------------------------------------------------------------------------------


def _change(before: Any, after: Any) -> Delta:
    """The delta of two values that differ."""
    if type(before) is type(after) and type(before) in _BY_TYPE:
        return _BY_TYPE[type(before)](before, after)
    return [after]


def _of_ints(before: int, after: int) -> Delta:
    return after - before if max(abs(before), abs(after)) < SAFE else [after]


def _of_texts(before: str, after: str) -> Delta:
    drop = next((drop for drop in range(len(before)) if after.startswith(before[drop:])), None)
    return [after] if drop is None else [drop, after[len(before) - drop :]]


def _of_objects(before: dict[str, Any], after: dict[str, Any]) -> Delta:
    delta: dict[str, Any] = {key: [] for key in before if key not in after}
    for key, new in after.items():
        if key not in before:
            delta[key] = [new]
        elif (old := before[key]) != new or type(old) is not type(new):
            delta[key] = _change(old, new)
    return delta


def _of_lists(before: list[Any], after: list[Any]) -> Delta:
    if (drop := _slide(before, after)) is not None:
        return [drop, after[len(before) - drop :]]
    if len(before) == len(after) and (changes := _few_changes(before, after)) is not None:
        return changes
    shorter = min(len(before), len(after))
    start = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    same = next((i for i in range(shorter - start) if before[-1 - i] != after[-1 - i]), shorter - start)
    return [start, len(before) - same - start, after[start : len(after) - same]]


def _few_changes(before: list[Any], after: list[Any]) -> dict[str, Any] | None:
    """The changes item by item; ``None`` for more than two numbers or texts, which are smaller as a piece of list."""
    changes: dict[str, Any] = {}
    plain = 0
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new or type(old) is not type(new):
            changes[str(index)] = _change(old, new)
            plain += not isinstance(new, dict | list)
            if plain > 2:
                return None
    return changes


def _slide(before: list[Any], after: list[Any]) -> int | None:
    """How many items to drop from the front so that ``after`` begins with the rest; ``None``: there is no such rest."""
    for drop in range(max(0, len(before) - len(after)), len(before)):
        if before[drop] == after[0] and before[drop:] == after[: len(before) - drop]:
            return drop
    return None


_BY_TYPE: dict[type, Callable[[Any, Any], Delta]] = {
    int: _of_ints,
    str: _of_texts,
    dict: _of_objects,
    list: _of_lists,
}
