"""AstrAI: a course on how language models are served, and the engine that it teaches.

Names are imported on first use (PEP 562), so that ``import astrai`` pulls in nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astrai.config import EngineConfig, ModelConfig, SamplingParams
    from astrai.films import film
    from astrai.inference.engine import GenerationRequest, GenerationResult, InferenceEngine
    from astrai.inference.server.background import serve_in_background
    from astrai.model.checkpoint import load
    from astrai.widgets.picture import play, watch
    from astrai.widgets.stepping.stepper import SchedulerStepper

__version__ = "0.1.0"

_HOMES = {
    "EngineConfig": "astrai.config",
    "ModelConfig": "astrai.config",
    "SamplingParams": "astrai.config",
    "GenerationRequest": "astrai.inference.engine",
    "GenerationResult": "astrai.inference.engine",
    "InferenceEngine": "astrai.inference.engine",
    "SchedulerStepper": "astrai.widgets.stepping.stepper",
    "film": "astrai.films",
    "load": "astrai.model.checkpoint",
    "play": "astrai.widgets.picture",
    "serve_in_background": "astrai.inference.server.background",
    "watch": "astrai.widgets.picture",
}
__all__ = [
    "EngineConfig",
    "GenerationRequest",
    "GenerationResult",
    "InferenceEngine",
    "ModelConfig",
    "SamplingParams",
    "SchedulerStepper",
    "film",
    "load",
    "play",
    "serve_in_background",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'astrai' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
