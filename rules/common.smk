# What every rule file shares: the library on the path, the validated config, closed wildcards.
import sys
from pathlib import Path

HOME = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(HOME / "workflow"))

from tremor.config import Places, on_defaults, read_yaml
from tremor.graph import CRITICAL_EFFECTS, CRITICAL_SCORES, PROBE_KEYS, Graph, files
from tremor.report import labels, numbers
from tremor.report import files as page

# A module of another workflow has the config it was given; files and command line are that workflow's.
MAIN = workflow.modifier.is_main_snakefile()
DEFAULT_CONFIG = str(HOME / "config/config.default.yaml")
# The user's file is the one beside the results, where there is one; else the workflow's own.
USER_CONFIG = "config/config.yaml" if Path("config/config.yaml").is_file() else str(HOME / "config/config.yaml")
OWN_FILES = (USER_CONFIG, *workflow.config_settings.configfiles) if MAIN else ()

# Snakemake keeps the last of two equal keys without a word; reading the user's files refuses them.
for file in OWN_FILES:
    read_yaml(file)

if MAIN:

    configfile: DEFAULT_CONFIG
    configfile: USER_CONFIG


graph = Graph(
    config if MAIN else on_defaults(config),
    home=HOME,
    cache=Path(".snakemake/tremor-code.json"),
    places=Places(OWN_FILES, workflow.config_settings.config if MAIN else {}),
    place=str if MAIN else workflow.modifier.modify_path,
)
if MAIN:  # captions and scripts see all keys
    config.clear()
    config.update(graph.plain)
else:
    config = graph.plain

if workflow.is_main_process:
    for pair, reason in graph.left_out.items():
        print(f"select.pairs: auto leaves out '{pair}' here ({reason})", file=sys.stderr)

# Figures and summaries as outputs of rules, marked for Snakemake's report.
marks = labels.Marks(graph, report)
figures, summary, shown = marks.figures, marks.summary, marks.shown


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
