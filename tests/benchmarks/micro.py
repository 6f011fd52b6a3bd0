"""A model so small that only the bookkeeping around it costs time."""

from astrai.config import ModelConfig

MICRO = ModelConfig(
    vocab_size=4096,
    hidden_size=24,
    num_layers=2,
    num_heads=6,
    num_kv_heads=1,
    head_dim=8,
    intermediate_size=32,
    max_seq_len=64,
    tie_embeddings=False,
)
