"""Models on disk: our own layout and the Hugging Face Llama layout, both safetensors, and ``astrai.load``.

A folder holds ``config.json``, ``model.safetensors`` (or shards with an index) and ``tokenizer.json``. Nothing is ever
unpickled. Whatever does not fit is named, all of it in one error.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from astrai.config import ModelConfig
from astrai.model.hf_llama import TIED_HEAD, config_from_hf, config_to_hf, hf_name, token_ids
from astrai.model.transformer import Transformer

if TYPE_CHECKING:
    from astrai.tokenizer import Tokenizer

TINY = Path(__file__).parent.parent / "assets" / "tiny"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
OLD_BUFFERS = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")  # of early exports: recomputed here
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class CheckpointError(ValueError):
    """A folder that cannot be loaded. The message names everything that is wrong and what to do."""


class Loaded(NamedTuple):
    """What ``astrai.load`` returns."""

    model: Transformer
    tokenizer: Tokenizer


def load(
    name_or_path: str | Path = "tiny", dtype: str | torch.dtype | None = None, device: str | torch.device | None = None
) -> Loaded:
    """A model, ready to run, and its tokenizer.

    ``name_or_path`` is ``"tiny"`` (the bundled model), ``"1b-random"`` (the architecture of the course at 1 B
    parameters, with random weights and the tiny tokenizer), a folder, or the id of a Llama on the Hugging Face hub.
    ``dtype`` defaults to what the checkpoint says, ``device`` to the GPU if there is one.

    Raises:
        CheckpointError: the folder or its files cannot be used.
    """
    from astrai.tokenizer import Tokenizer

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name_or_path == "1b-random":
        tokenizer = Tokenizer.load(TINY)
        config = _with_dtype(ModelConfig.preset("1b"), dtype)
        config = replace(config, bos_id=tokenizer.bos_id, eos_ids=tuple(tokenizer.eos_ids))
        return Loaded(Transformer.random(config, seed=0, device=device).eval(), tokenizer)
    folder = TINY if name_or_path == "tiny" else Path(name_or_path).expanduser()
    if not folder.is_dir():
        folder = _download(str(name_or_path))
    return Loaded(load_model(folder, dtype, device), Tokenizer.load(folder))


def load_model(
    folder: str | Path, dtype: str | torch.dtype | None = None, device: str | torch.device = "cpu"
) -> Transformer:
    """The model in a folder of either layout, in evaluation mode.

    Raises:
        CheckpointError: naming each file or tensor that is missing, superfluous, corrupt or of the wrong shape.
    """
    folder = Path(folder)
    values = _read_json(folder / "config.json")
    native = values.pop("format", None) == "astrai"
    try:
        config = ModelConfig.from_dict(values) if native else _hf_config(folder, values)
        config = _with_dtype(config, dtype)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} cannot be used: {error}") from error
    model = Transformer.empty(config, device)
    wanted = {name if native else hf_name(name): parameter for name, parameter in model.named_parameters()}
    _fill(wanted, folder, may_have_head=not native and config.tie_embeddings)
    return model.eval()


def save(model: Transformer, folder: str | Path, layout: Literal["native", "hf"] = "native") -> None:
    """Write ``config.json`` and ``model.safetensors``; the folder is made if needed. The tokenizer saves itself."""
    if layout not in ("native", "hf"):
        raise ValueError(f"layout is {layout!r}, but must be 'native' or 'hf'")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    native = layout == "native"
    config = {"format": "astrai", **model.config.to_dict()} if native else config_to_hf(model.config)
    tensors = {name if native else hf_name(name): tensor for name, tensor in model.state_dict().items()}
    # NOTE: written beside and then renamed, so that an interrupted save leaves the old file whole.
    save_file(tensors, folder / f"{WEIGHTS}.part", metadata={"format": "pt"})
    os.replace(folder / f"{WEIGHTS}.part", folder / WEIGHTS)
    (folder / INDEX).unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _with_dtype(config: ModelConfig, dtype: str | torch.dtype | None) -> ModelConfig:
    return config if dtype is None else replace(config, dtype=str(dtype).removeprefix("torch."))


def _hf_config(folder: Path, values: dict[str, Any]) -> ModelConfig:
    """The config, with the end-of-sequence ids that only the generation config knows."""
    config = config_from_hf(values)
    if not (folder / "generation_config.json").exists():
        return config
    more = token_ids(_read_json(folder / "generation_config.json").get("eos_token_id"))
    return replace(config, eos_ids=tuple(dict.fromkeys((*config.eos_ids, *more))))


def _download(name: str) -> Path:
    if not HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"there is no folder {name!r}: give 'tiny', '1b-random', a folder, or a hub id owner/name"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError(
            f"there is no folder {name!r}; to get it from the hub as a model id, pip install huggingface_hub"
        ) from None
    return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.jinja"], ignore_patterns=["*/*"]))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: is {path.parent} the folder of a model?") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): copy or download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not an object: copy or download it again")
    return values


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        hint = f"{', '.join(pickled)} would have to be unpickled, which is unsafe: " if pickled else ""
        raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}: {hint}save the model as safetensors")
    weight_map = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{folder / INDEX} has no weight_map: copy or download it again")
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if Path(name).name != name]
    absent = [name for name in names if name not in outside and not (folder / name).exists()]
    if outside or absent:
        problems = [f"{name} is not a plain file name" for name in outside] + [f"{name} is missing" for name in absent]
        raise CheckpointError(f"shards named in {folder / INDEX}: {'; '.join(problems)}; download the folder again")
    return [folder / name for name in names]


def _fill(wanted: dict[str, Tensor], folder: Path, may_have_head: bool) -> None:
    """Copy each tensor of the folder into the parameter of its name."""
    problems: list[str] = []
    corrupt: list[str] = []
    found: set[str] = set()
    head = None
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a dict)
                    if OLD_BUFFERS.fullmatch(name):
                        continue
                    if name == TIED_HEAD and may_have_head:
                        head = file.get_tensor(name)
                        continue
                    problem = "is in two files" if name in found else _copy(file.get_tensor(name), wanted.get(name))
                    found.add(name)
                    if problem:
                        problems.append(f"{name} {problem}")
        except (SafetensorError, OSError) as error:
            corrupt.append(f"{path.name} is corrupt or truncated ({error})")
    if head is not None and not _equals(head, wanted["model.embed_tokens.weight"]):
        problems.append(f"{TIED_HEAD} differs from the embedding although config.json ties them")
    if not corrupt:  # whose tensors are not known
        problems += [f"{name} is missing" for name in wanted if name not in found]
    if corrupt or problems:
        raise CheckpointError(
            f"the weights in {folder} do not fit its config.json: {'; '.join(corrupt + problems)}. "
            "Copy or download the folder again, or correct config.json"
        )


@torch.no_grad()
def _copy(tensor: Tensor, parameter: Tensor | None) -> str | None:
    """Fill the parameter; what is wrong with the tensor, if anything."""
    if parameter is None:
        return "is not a tensor of this model"
    if tensor.shape != parameter.shape:
        return f"has shape {list(tensor.shape)}, not {list(parameter.shape)}"
    if tensor.dtype not in FLOATS:
        return f"has dtype {str(tensor.dtype).removeprefix('torch.')}, which is not a plain float"
    parameter.copy_(tensor)
    return None if bool(parameter.isfinite().all()) else "holds values that are not finite"


def _equals(head: Tensor, embedding: Tensor) -> bool:
    return head.shape == embedding.shape and torch.equal(head.to(embedding), embedding.detach())
