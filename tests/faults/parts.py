"""What a job of the workflow would be given, small."""

from typing import Any

from tremor.config import Config, block

ORIGIN: dict[str, Any] = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPT = {"text": "The capital of France is", "bos": "auto"}


def probe(**changes: Any) -> dict[str, Any]:
    """The config block ``probe``, on one thread of the CPU."""
    return {**block(Config(), "probe"), "threads": 1, "device": "cpu", **changes}
