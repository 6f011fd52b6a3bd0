"""What an operator decides about the server: its name for the model, who may use it, and where its limits are."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Times are in seconds, sizes in bytes or characters as the names say."""

    model_name: str = "tiny"  # what clients call the model
    api_key: str | None = None  # asked of every request but GET / and GET /health
    max_body_bytes: int = 4 * 2**20
    max_messages: int = 1000
    max_prompt_chars: int = 200_000  # per prompt or conversation, looked at before it is cut into tokens
    max_choices: int = 128  # prompts times n in one request
    body_timeout: float = 30.0  # for a request's body to arrive
    request_timeout: float | None = 600.0  # from a request's arrival to its last token
    keepalive: float = 15.0  # a stream that has nothing to say says so this often
    trace: bool = False  # GET /v1/trace shows every prompt as token ids: on only where that is wanted
    log_prompts: bool = False

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_messages", "max_prompt_chars", "max_choices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("body_timeout", "request_timeout", "keepalive"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}, but must be a positive number of seconds")
        if self.api_key is not None and not _fits_into_a_header(self.api_key):
            raise ValueError(
                "the API key is empty, begins or ends with a space, or has characters that a header cannot carry: "
                "use printable ASCII"
            )
        if not self.model_name:
            raise ValueError("model_name is empty, but clients ask for the model by its name")


def _fits_into_a_header(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and key == key.strip()
