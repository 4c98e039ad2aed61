"""Errors that a user can act on: each message names the file or key at fault and the remedy."""


class TremorError(Exception):
    """Base of every error Tremor raises on purpose; scripts print its message without a traceback."""


class ConfigError(TremorError):
    """The configuration is wrong: an unknown key, a value out of bounds, a name that is not defined."""


class PromptError(TremorError):
    """A prompt cannot be used: it is empty, or longer than the model's context."""


class ModelError(TremorError):
    """A model cannot be loaded or understood: missing files, unsafe weights, unknown architecture."""


class ArtifactError(TremorError):
    """A file on disk is truncated, edited, of another schema, or was made under other conditions."""


class PlatformError(TremorError):
    """The machine does not offer what was asked: no such device, or arithmetic that is not repeatable."""


class NumericsError(TremorError):
    """A computation left its valid range: NaN or infinity, no convergence, an assertion on bits that failed."""
