# What every rule file shares: the library on the path, the validated config, closed wildcards.
import sys
from pathlib import Path

HOME = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(HOME / "workflow"))

from tremor.graph import PROBE_KEYS, Graph, files


# The user's file is the one beside the results, where there is one; else the workflow's own.
DEFAULT_CONFIG = str(HOME / "config/config.default.yaml")
USER_CONFIG = "config/config.yaml" if Path("config/config.yaml").is_file() else str(HOME / "config/config.yaml")


configfile: DEFAULT_CONFIG
configfile: USER_CONFIG


graph = Graph(config, home=HOME, cache=Path(".snakemake/tremor-code.json"))
config.clear()
config.update(graph.plain)


wildcard_constraints:
    model=graph.names("models"),
    prompt=graph.names("prompts"),
    dtype="float32|bfloat16|float16",
    arithmetic="float64|float32",
    variant="angles|vectors",
