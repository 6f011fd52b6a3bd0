"""Compares arrays of numpy and torch: shape, then dtype, then the first number that differs."""

from __future__ import annotations

from typing import Any

import numpy as np

from astrai.course.mistakes import Mistake, differ


def same_array(actual: Any, expected: Any, what: str, tolerance: float = 0.0) -> None:
    """Make sure that two arrays agree: same shape, same dtype, no two numbers further apart than ``tolerance``.

    Where one of them is a plain number or ``expected`` a list, the dtype is free. NaN equals NaN.

    Raises:
        Mistake: naming ``what`` and the first difference.

    Example:
        >>> same_array(np.array([[1.0, 2.0]]), np.array([[1.0, 2.5]]), "the scores", tolerance=0.1)
        Traceback (most recent call last):
        ...
        astrai.course.mistakes.Mistake: In the scores, [0, 1] is 2.0 and should be 2.5 (1 of 2 numbers is \
wrong; a difference of up to 0.1 is allowed, and here it is 0.5).
    """
    if hasattr(expected, "dtype") and not hasattr(actual, "dtype") and len(expected.shape):
        kind = type(actual).__name__
        raise Mistake(
            f"{what}: this should be a {_kind(expected)}, and is of type {kind}.", expected=expected, actual=actual
        )
    mine, wanted = _numbers(actual), _numbers(expected)
    if mine.shape != wanted.shape:
        shapes = f"the shape is {mine.shape} and should be {wanted.shape}"
        raise Mistake(f"{what}: {shapes}.", expected=wanted.shape, actual=mine.shape)
    if hasattr(expected, "dtype") and hasattr(actual, "dtype") and _dtype(actual) != _dtype(expected):
        dtypes = f"the dtype is {_dtype(actual)} and should be {_dtype(expected)}"
        raise Mistake(f"{what}: {dtypes}.", expected=_dtype(expected), actual=_dtype(actual))
    wrong = _wrong(mine, wanted, tolerance)
    if wrong.any():
        _differ_first(mine, wanted, wrong, what, tolerance)


def _differ_first(mine: np.ndarray, wanted: np.ndarray, wrong: np.ndarray, what: str, tolerance: float) -> None:
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    one, other = mine[index].item(), wanted[index].item()
    at = f"[{', '.join(map(str, index))}]" if index else ""
    count = int(wrong.sum())
    rest = f"{count:,} of {wrong.size:,} numbers {'is' if count == 1 else 'are'} wrong; "
    if tolerance:
        rest += f"a difference of up to {tolerance:g} is allowed, and here it is {abs(one - other):.3g}"
    else:
        rest += "they must be exactly equal"
    differ(what, at, one, other, f" ({rest})")


def _wrong(mine: np.ndarray, wanted: np.ndarray, tolerance: float) -> np.ndarray:
    wrong = (mine != wanted) & ~((mine != mine) & (wanted != wanted))
    if tolerance:
        wide = np.complex128 if "c" in mine.dtype.kind + wanted.dtype.kind else np.float64
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            wrong &= ~(np.abs(mine.astype(wide) - wanted.astype(wide)) <= tolerance)
    return wrong


def _numbers(values: Any) -> np.ndarray:
    if not hasattr(values, "detach"):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if _dtype(values) == "bfloat16" else values).numpy()  # numpy has no bfloat16


def _dtype(values: Any) -> str:
    return str(values.dtype).removeprefix("torch.")


def _kind(values: Any) -> str:
    return "torch tensor" if hasattr(values, "detach") else "numpy array"
