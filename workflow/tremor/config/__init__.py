"""The configuration: typed blocks, checked strictly, which also write the default YAML and JSON schema.

`load` checks what Snakemake read; `load_files` reads YAML files itself; `block` gives a rule the keys that it
uses. How to add a block is said in `tremor.config.root`. This package imports neither torch nor numpy,
because Snakemake reads it at every start.
"""

from tremor.config.load import block, effective_dtype, load, load_files, located, merged, on_defaults, read_yaml
from tremor.config.places import Places
from tremor.config.root import Config

__all__ = [
    "Config",
    "Places",
    "block",
    "effective_dtype",
    "load",
    "load_files",
    "located",
    "merged",
    "on_defaults",
    "read_yaml",
]
