"""The check of exercise 08.2: keys and values written into one buffer, and read back as views."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from astrai.course.chapters.ch08_hugging_face import like_hugging_face
from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake, same

if TYPE_CHECKING:
    from torch import Tensor

LAYERS, SLOTS, HEADS, POSITIONS, SIZE = 3, 4, 2, 9, 4
ORDER = "both tensors are (L, S, K, M, E): layer, slot, kv head, position, number"
NAMES = ("k_cache", "v_cache")
Place = tuple[int, int, int]


class Written(NamedTuple):
    """What was handed to ``write`` for one token, both (K, E)."""

    k: Tensor
    v: Tensor


def buffer(MyKVCache: Any) -> None:
    """Their ``write`` and ``read``: one token, then many at random, then the bundled model."""
    from astrai.inference.cache.kv_cache import KVCache

    own_class(MyKVCache, "write", "read", base=KVCache, begin="TokenByToken")
    _one_token(_small(MyKVCache))
    _twice(_small(MyKVCache))
    _views(_small(MyKVCache))
    _many_tokens(_small(MyKVCache))
    like_hugging_face(MyKVCache)


def _small(kind: Any) -> Any:
    from astrai.config import ModelConfig

    config = ModelConfig(
        vocab_size=8,
        hidden_size=8,
        num_layers=LAYERS,
        num_heads=2 * HEADS,
        num_kv_heads=HEADS,
        head_dim=SIZE,
        intermediate_size=8,
        max_seq_len=POSITIONS,
    )
    return kind(config, num_slots=SLOTS, max_seq_len=POSITIONS)


def _token(number: int) -> Written:
    """Keys that are whole and positive, values that are their negatives: no two tokens share a number."""
    import torch

    k = torch.arange(HEADS * SIZE).view(HEADS, SIZE) + 1.0 + 100 * number  # (K, E)
    return Written(k, -k)


# --- write ------------------------------------------------------------------------------------------------------------


def _one_token(cache: Any) -> None:
    """One token, at a place where a mixed-up index would show."""
    place, token, before = (1, 2, 5), _token(1), (cache.k_cache, cache.v_cache)
    call = "write(layer=1, slot=2, position=5, k, v)"
    _carried_out(lambda: cache.write(*place, *token), call)
    for name, tensor in zip(NAMES, before, strict=True):
        if getattr(cache, name) is not tensor:
            raise Mistake(f"`write` puts a new tensor in the place of {name}: assign into a slice of the old one.")
    if (cache.k_cache[1, 2, :, 5] == token.v).all():
        raise Mistake(f"after {call}, k_cache holds the values: k belongs into k_cache, v into v_cache.")
    for name, kept in zip(NAMES, token, strict=True):
        tensor = getattr(cache, name)
        if not tensor.any():
            raise Mistake(
                f"after {call}, {name} is as blank as before: nothing was assigned to `self.{name}[...]`, or only to a "
                "copy of it."
            )
        expected = tensor.new_zeros(tensor.shape)
        expected[1, 2, :, 5] = kept
        _only_there(name, tensor, expected, call)


def _twice(cache: Any) -> None:
    """Two tokens in turn at one place: a row that was handed out again is written over."""
    first, second = _token(1), _token(2)
    for token in (first, second):
        cache.write(1, 2, 5, *token)
    for name, old, new in zip(NAMES, first, second, strict=True):
        kept = getattr(cache, name)[1, 2, :, 5]
        if (kept == old + new).all():
            raise Mistake(
                f"after two writes to one place of {name}, the second was added to the first: assign with `=`."
            )
        if (kept == old).all():
            raise Mistake(f"after two writes to one place of {name}, the first still stands: a later one replaces it.")


def _only_there(name: str, tensor: Tensor, expected: Tensor, call: str) -> None:
    touched = ((tensor != 0) & (expected == 0)).nonzero().tolist()
    if touched:
        layer, slot, head, position, _ = touched[0]
        where = f"layer {layer}, slot {slot}, head {head}, position {position}"
        raise Mistake(f"{call} wrote to {name} at {where}, where nothing was to change; {ORDER}.")
    missing = ((tensor == 0) & (expected != 0)).nonzero().tolist()
    if missing:
        head = missing[0][2]
        raise Mistake(f"{call} left out kv head {head} in {name}: write all heads at once, with `:` at their place.")
    same(tensor[1, 2, :, 5], expected[1, 2, :, 5], f"{name}[1, 2, :, 5] after {call}")


# --- read -------------------------------------------------------------------------------------------------------------


def _views(cache: Any) -> None:
    """A row of three tokens, read while a neighbour holds other ones."""
    for position in range(3):
        for slot in (1, 2):
            cache.write(1, slot, position, *_token(10 * slot + position))
    found = _pair(_carried_out(lambda: cache.read(1, 2, 3), "read(layer=1, slot=2, length=3)"))
    for name, other, tensor in zip(NAMES, NAMES[::-1], found, strict=True):
        what = f"what read(layer=1, slot=2, length=3) gives of {name}"
        expected = getattr(cache, name)[1, 2, :, :3]
        _shaped(tensor, what)
        if tensor.untyped_storage().data_ptr() == getattr(cache, other).untyped_storage().data_ptr():
            raise Mistake(f"{what} comes from {other}: return the keys first, then the values.")
        same(tensor, expected, what)
        if tensor.untyped_storage().data_ptr() != getattr(cache, name).untyped_storage().data_ptr():
            raise Mistake(
                f"{what} is a copy: its numbers are right, but they stand in memory of their own. A plain slice is a "
                "view; `.clone()`, `.contiguous()`, `stack`, `cat` and index lists copy."
            )


def _pair(found: Any) -> Any:
    if isinstance(found, tuple | list) and len(found) == 2 and all(hasattr(part, "untyped_storage") for part in found):
        return found
    kind = "one tensor" if hasattr(found, "untyped_storage") else f"a {type(found).__name__}"
    if found is None:
        kind = "nothing (is a `return` missing?)"
    raise Mistake(f"`read` returns {kind} and should return two tensors, the keys and the values.")


def _shaped(tensor: Any, what: str) -> None:
    shape, expected = tuple(tensor.shape), (HEADS, 3, SIZE)
    if shape == expected:
        return
    rest = f"should be (K, length, E) = {expected}"
    if shape == (3, HEADS, SIZE):
        rest += ": heads and positions are swapped"
    elif len(shape) == 3 and shape[1] in (2, 4):
        rest += f": that is {shape[1]} positions where 3 were asked for. `:length` is positions 0 to length - 1"
    elif len(shape) == 3 and shape[1] == POSITIONS:
        rest += ": that is the whole row, and beyond `length` it holds nothing that is valid"
    raise Mistake(f"{what} has the shape {shape}, and {rest}.", expected=expected, actual=shape)


# --- by brute force ---------------------------------------------------------------------------------------------------


def _many_tokens(cache: Any) -> None:
    """Writes at random, over old ones too, next to a dictionary of what should be there."""
    chance, kept = random.Random(8), dict[Place, Written]()
    for number in range(120):
        place = (chance.randrange(LAYERS), chance.randrange(SLOTS), chance.randrange(POSITIONS))
        kept[place] = _token(number)
        cache.write(*place, *kept[place])
    blank = cache.k_cache.new_zeros(HEADS, SIZE)
    for layer in range(LAYERS):
        for slot in range(SLOTS):
            keys, values = cache.read(layer, slot, POSITIONS)
            for position in range(POSITIONS):
                token = kept.get((layer, slot, position), Written(blank, blank))
                where = f"layer {layer}, slot {slot}, position {position} after 120 writes at random"
                same(keys[:, position], token.k, f"the key of {where}")
                same(values[:, position], token.v, f"the value of {where}")


def _carried_out(action: Callable[[], Any], call: str) -> Any:
    """Do it; where an index does not fit, say how the tensors are laid out."""
    try:
        return action()
    except NotImplementedError:
        raise
    except (IndexError, RuntimeError) as error:
        says = f"{type(error).__name__}: {error}"
        raise Mistake(f"{call} does not fit the tensors; {ORDER}.", rows=[("Python says", says)]) from error
