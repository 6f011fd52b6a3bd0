"""Folders of both layouts: what is saved is loaded, and what does not fit is refused by name."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

import astrai
from astrai.config import Llama3RopeScaling, ModelConfig
from astrai.model import checkpoint
from astrai.model.checkpoint import CheckpointError, load_model, save
from astrai.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=61,
    hidden_size=24,
    num_layers=2,
    num_heads=6,
    num_kv_heads=1,
    head_dim=8,
    intermediate_size=30,
    max_seq_len=64,
    rope_scaling=Llama3RopeScaling(8.0, 1.0, 4.0, 32),
    bos_id=1,
    eos_ids=(2, 5),
)


def untied(config: ModelConfig = CONFIG) -> ModelConfig:
    return ModelConfig.from_dict({**config.to_dict(), "tie_embeddings": False})


def edit_json(path: Path, **changes: object) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "absent"}))


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({name: t for name, t in tensors.items() if t is not None}, folder / "model.safetensors")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of a small model in our own layout."""
    save(Transformer.random(CONFIG, seed=0), tmp_path / "native")
    return tmp_path / "native"


@pytest.fixture
def saved_hf(tmp_path: Path) -> Path:
    """The folder of a small model in the Hugging Face layout."""
    save(Transformer.random(CONFIG, seed=0), tmp_path / "ours", layout="hf")
    return tmp_path / "ours"


@pytest.mark.parametrize("config", [CONFIG, untied()], ids=["tied", "untied"])
@pytest.mark.parametrize("layout", ["native", "hf"])
def test_a_saved_model_is_loaded_with_the_same_config_and_weights(config, layout, tmp_path: Path) -> None:
    model = Transformer.random(config, seed=3)
    save(model, tmp_path, layout)
    loaded = load_model(tmp_path)
    assert loaded.config == config
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("config", [CONFIG, untied()], ids=["tied", "untied"])
def test_hugging_face_loads_what_we_save(config: ModelConfig, tmp_path: Path) -> None:
    model = Transformer.random(config, seed=3)
    save(model, tmp_path, "hf")
    theirs, report = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    ids = torch.randint(0, 61, (2, 50))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), rtol=1e-5, atol=1e-5)
    assert theirs.config.eos_token_id == [2, 5]


def test_hugging_face_folders_with_many_shards_are_loaded(make_hf, tmp_path: Path) -> None:
    theirs = make_hf(max_shard_size="8KB", tie_word_embeddings=False)
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 3
    ids = torch.randint(0, 97, (1, 20))
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "hf")(ids), theirs(ids).logits, rtol=1e-5, atol=1e-5)


def test_the_dtype_is_that_of_the_checkpoint_unless_another_is_asked_for(tmp_path: Path) -> None:
    config = ModelConfig.from_dict({**CONFIG.to_dict(), "dtype": "bfloat16"})
    save(Transformer.random(config, seed=0), tmp_path, "hf")
    assert load_model(tmp_path).embed.weight.dtype == torch.bfloat16
    for dtype in ("float32", torch.float32):
        model = load_model(tmp_path, dtype)
        assert model.embed.weight.dtype == torch.float32
        assert model.config.dtype == "float32"


def test_older_spellings_of_hugging_face_configs_are_understood(saved_hf: Path) -> None:
    scaling = json.loads((saved_hf / "config.json").read_text())["rope_scaling"]
    scaling["type"] = scaling.pop("rope_type")
    edit_json(
        saved_hf / "config.json",
        rope_scaling=scaling,
        head_dim="absent",
        rms_norm_eps="absent",
        eos_token_id=2,
        hidden_size=48,
        intermediate_size=30,
    )
    config = ModelConfig.from_dict({**CONFIG.to_dict(), "hidden_size": 48})
    save_file(
        {checkpoint.hf_name(name): tensor for name, tensor in Transformer.random(config, seed=0).state_dict().items()},
        saved_hf / "model.safetensors",
    )
    expected = {**config.to_dict(), "norm_eps": 1e-6, "eos_ids": (2,)}
    assert load_model(saved_hf).config == ModelConfig.from_dict(expected)


def test_end_ids_of_the_generation_config_are_added(saved_hf: Path) -> None:
    (saved_hf / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 9]}))
    assert load_model(saved_hf).config.eos_ids == (2, 5, 9)


def test_a_stored_copy_of_a_tied_head_and_old_buffers_are_accepted(saved_hf: Path) -> None:
    embedding = load_file(saved_hf / "model.safetensors")["model.embed_tokens.weight"]
    old = {"model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    edit_tensors(saved_hf, **{"lm_head.weight": embedding.clone(), **old})
    assert load_model(saved_hf).head is None
    edit_tensors(saved_hf, **{"lm_head.weight": embedding + 1})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from the embedding"):
        load_model(saved_hf)


UNSUPPORTED = {
    "attention_bias": True,
    "mlp_bias": True,
    "hidden_act": "gelu",
    "sliding_window": 4096,
    "quantization_config": {"bits": 4},
    "partial_rotary_factor": 0.5,
    "layer_types": ["full_attention", "sliding_attention"],
    "architectures": ["MistralForCausalLM"],
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
}


@pytest.mark.parametrize("key", UNSUPPORTED)
def test_a_config_that_asks_for_something_unsupported_is_refused_by_name(key: str, saved_hf: Path) -> None:
    edit_json(saved_hf / "config.json", **{key: UNSUPPORTED[key]})
    name = "rope_type" if key.startswith("rope") else key
    with pytest.raises(CheckpointError, match=f"not supported: {name} = "):
        load_model(saved_hf)


def test_all_unsupported_things_are_named_in_one_error(saved_hf: Path) -> None:
    edit_json(saved_hf / "config.json", attention_bias=True, mlp_bias=True, architectures="absent")
    with pytest.raises(CheckpointError, match=r"architectures = None.*attention_bias = True; mlp_bias = True"):
        load_model(saved_hf)


def test_values_that_make_no_model_are_refused_with_the_numbers(saved: Path, saved_hf: Path) -> None:
    edit_json(saved / "config.json", num_kv_heads=4)
    with pytest.raises(CheckpointError, match=r"num_heads \(6\) must be a multiple of num_kv_heads \(4\)"):
        load_model(saved)
    edit_json(saved / "config.json", num_kv_heads=1, colour="red")
    with pytest.raises(CheckpointError, match="unknown keys in model config: colour"):
        load_model(saved)
    edit_json(saved_hf / "config.json", hidden_size="absent")
    with pytest.raises(CheckpointError, match="key 'hidden_size' is missing"):
        load_model(saved_hf)


def test_wrong_tensors_are_named_one_by_one(saved: Path) -> None:
    edit_tensors(
        saved,
        **{
            "norm.weight": None,
            "blocks.0.mlp.up_proj.weight": torch.zeros(29, 24),
            "blocks.1.attention_norm.weight": torch.full((24,), torch.nan),
            "blocks.1.mlp_norm.weight": torch.ones(24, dtype=torch.int8),
            "blocks.7.mlp_norm.weight": torch.ones(24),
        },
    )
    with pytest.raises(CheckpointError) as error:
        load_model(saved)
    for part in (
        "norm.weight is missing",
        "blocks.0.mlp.up_proj.weight has shape [29, 24], not [30, 24]",
        "blocks.1.attention_norm.weight holds values that are not finite",
        "blocks.1.mlp_norm.weight has dtype int8",
        "blocks.7.mlp_norm.weight is not a tensor of this model",
        "download the folder again",
    ):
        assert part in str(error.value)


def test_truncated_and_corrupt_files_are_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:100], b"", b"\xff" * 300):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.safetensors is corrupt or truncated"):
            load_model(saved)
    path.write_bytes(whole)
    (saved / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not valid JSON"):
        load_model(saved)
    (saved / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json holds a list"):
        load_model(saved)


def test_missing_files_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load_model(tmp_path)
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin would have to be unpickled"):
        load_model(saved)


def test_shards_that_are_missing_or_doubled_or_outside_are_named(make_hf, tmp_path: Path) -> None:
    make_hf(max_shard_size="8KB")
    folder = tmp_path / "hf"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    shutil.copy(folder / shards[0], folder / "double.safetensors")
    weight_map = {**index["weight_map"], "again": "double.safetensors"}
    edit_json(folder / "model.safetensors.index.json", weight_map=weight_map)
    with pytest.raises(CheckpointError, match="is in two files"):
        load_model(folder)
    (folder / shards[1]).unlink()
    edit_json(folder / "model.safetensors.index.json", weight_map={**weight_map, "far": "../far.safetensors"})
    with pytest.raises(
        CheckpointError, match=rf"\.\./far\.safetensors is not a plain file name; {shards[1]} is missing"
    ):
        load_model(folder)
    edit_json(folder / "model.safetensors.index.json", weight_map={})
    with pytest.raises(CheckpointError, match="no weight_map"):
        load_model(folder)


def test_saving_replaces_the_weights_in_one_step(saved: Path) -> None:
    (saved / "model.safetensors.index.json").write_text("{}")
    save(Transformer.random(CONFIG, seed=9), saved)
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(ValueError, match="layout is 'gguf'"):
        save(Transformer.random(CONFIG, seed=9), saved, layout="gguf")  # type: ignore[arg-type]


def test_load_refuses_names_that_are_neither_known_nor_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="give 'tiny', '1b-random', a folder, or a hub id"):
        astrai.load("./nowhere/at/all")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    with pytest.raises(CheckpointError, match="pip install huggingface_hub"):
        astrai.load("owner/name")


def test_a_hub_id_downloads_safetensors_and_json_only(saved_hf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def snapshot_download(name: str, **options: list[str]) -> str:
        asked.update(options, name=name)
        return str(saved_hf)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("astrai.tokenizer.Tokenizer.load", classmethod(lambda cls, folder: folder))
    model, tokenizer = astrai.load("owner/name", dtype="bfloat16", device="cpu")
    assert model.embed.weight.dtype == torch.bfloat16
    assert tokenizer == saved_hf
    assert asked["name"] == "owner/name"
    assert asked["allow_patterns"] == ["*.safetensors", "*.json", "*.jinja"]


def test_1b_random_is_the_preset_with_the_tokens_of_the_tiny_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tiny:
        bos_id, eos_ids = 0, (3,)

    monkeypatch.setitem(checkpoint.ModelConfig.preset.__globals__["PRESETS"], "1b", CONFIG.to_dict())
    monkeypatch.setattr("astrai.tokenizer.Tokenizer.load", classmethod(lambda cls, folder: Tiny()))
    model, _ = astrai.load("1b-random", device="cpu")
    assert (model.config.bos_id, model.config.eos_ids) == (0, (3,))
    assert torch.equal(model.embed.weight, astrai.load("1b-random", device="cpu").model.embed.weight)
