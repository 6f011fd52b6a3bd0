"""Part of the check of exercise 08.2: the bundled model on a learner's KV cache, next to Hugging Face's numbers."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from astrai.course.mistakes import Mistake, same

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-3  # float32, added up in another order; keys and values are about 1 in size


def like_hugging_face(kind: Any) -> None:
    """The bundled model, token by token through their cache, next to what Hugging Face keeps for the same prompt."""
    import torch

    from astrai.model.checkpoint import TINY, load_model

    kept, model = references(), load_model(TINY)
    ids, slot = kept["prompt_ids"].tolist(), 1
    cache = kind(model.config, num_slots=3, max_seq_len=len(ids))
    written = _counting(cache)
    with torch.inference_mode():
        for position, token in enumerate(ids):
            attend = cache.decode_attend([slot], [position])
            logits = model(torch.tensor([[token]]), torch.tensor([[position]]), attend)  # (1, 1, V)
    if not written:
        raise Mistake(
            "Your two methods are right, but the model never calls them: derive your class from `TokenByToken`, "
            "which sends every token through `write` and `read`."
        )
    for layer in range(model.config.num_layers):
        found = zip(("keys", "values"), cache.read(layer, slot, len(ids)), strict=True)
        for name, tensor in found:
            what = f"the {name} of layer {layer}, compared with Hugging Face's (head, position, number)"
            same(tensor, kept[name][layer], what, tolerance=TOLERANCE)
    what = "the model's scores after the prompt, compared with Hugging Face's"
    same(logits[0, 0], kept["logits"], what, tolerance=TOLERANCE)


def _counting(cache: Any) -> list[Any]:
    """From now on each call of ``write`` adds to this list the layer that it was for."""
    write, layers = cache.write, list[Any]()

    def counted(layer: Any, *rest: Any) -> None:
        layers.append(layer)
        write(layer, *rest)

    cache.write = counted
    return layers


def references() -> dict[str, Tensor]:
    """What ``scripts/make_references.py`` kept: ``prompt_ids``, ``answer_ids``, ``keys``, ``values``, ``logits``."""
    from safetensors.torch import load_file

    with as_file(files("astrai.course").joinpath("references/08.safetensors")) as path:
        return load_file(path)
