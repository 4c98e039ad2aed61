# What every rule file shares: the library on the path, the validated config, closed wildcards.
import sys
from pathlib import Path

HOME = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(HOME / "workflow"))

from tremor.config import read_yaml
from tremor.graph import CRITICAL_EFFECTS, CRITICAL_SCORES, PROBE_KEYS, Graph, files

# The user's file is the one beside the results, where there is one; else the workflow's own.
DEFAULT_CONFIG = str(HOME / "config/config.default.yaml")
USER_CONFIG = "config/config.yaml" if Path("config/config.yaml").is_file() else str(HOME / "config/config.yaml")


configfile: DEFAULT_CONFIG
configfile: USER_CONFIG


# Snakemake keeps the last of two equal keys without a word; reading the user's files again refuses them.
for file in workflow.configfiles:
    if str(file) != DEFAULT_CONFIG:
        read_yaml(file)

graph = Graph(config, home=HOME, cache=Path(".snakemake/tremor-code.json"))
config.clear()
config.update(graph.plain)

if workflow.is_main_process:
    for pair, reason in graph.left_out.items():
        print(f"select.pairs: auto leaves out '{pair}' here ({reason})", file=sys.stderr)


wildcard_constraints:
    model=graph.names("models"),
    prompt=graph.names("prompts"),
    platform=graph.names("platforms"),
    pair=graph.names("pairs"),
    document=graph.names("documents"),
    dtype="float32|bfloat16|float16",
    arithmetic="float64|float32",
    numerics="float64|float32|true_float64",
    precision="bfloat16|float16|float32|true_float64",
    study="archive|gpt_oss",
    tie="geometric|probability",
    variant="angles|vectors",
    side="a|b",
