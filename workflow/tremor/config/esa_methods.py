"""Names of scores and components that blocks of the extreme sensitivity analyses share."""

from typing import Literal

COMPONENTS = ("mixer", "mlp")  # all matrices inside the blocks, of any architecture
Method = Literal[
    "magnitude", "z_score", "z_score_global", "z_score_robust", "taylor_signed", "taylor_abs", "grad_squared",
    "fisher_token", "fisher_true", "hutchinson", "obd", "obs_diag", "wanda", "weight_ig", "random",
]  # fmt: skip
Finder = Literal[Method, "activation_spike", "spikes"]
METHODS: tuple[Method, ...] = (
    "magnitude", "z_score", "z_score_global", "z_score_robust", "taylor_signed", "taylor_abs", "grad_squared",
    "fisher_true", "hutchinson", "obd", "obs_diag", "wanda", "weight_ig",
)  # fmt: skip
