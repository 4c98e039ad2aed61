# A chain of products on each platform and its comparison, and steps through small maps (exp10).
CHAIN_KEYS = (
    "chain_dim",
    "chain_matrices",
    "chain_scale",
    "chain_seed",
    "chain_repeats",
    "chain_dtypes",
)
SWEEP_KEYS = (
    "subjects",
    "block",
    "weight",
    "dim",
    "matrices",
    "weight_scale",
    "weight_seed",
    "input_seed",
    "direction_seed",
    "arithmetic",
    "powers",
    "tolerance",
    "noise_samples",
    "noise_seed",
)


rule exp10_chain:
    """Chain of products on one platform."""
    output:
        data="results/exp10/chains/{platform}/chain.h5",
    log:
        "logs/exp10/chains/{platform}.log",
    benchmark:
        "benchmarks/exp10/chains/{platform}.tsv"
    wildcard_constraints:
        platform=graph.names("platforms", imported=False),
    conda:
        "../envs/run.yaml"
    threads: graph.platform_threads
    resources:
        **graph.placement(),
        gpu=graph.platform_gpus,
    params:
        platform=graph.arithmetic_of,
        settings=graph.block("exp10", *CHAIN_KEYS),
        code=graph.code("experiments.matrix_chain", "experiments.session"),
    message:
        "Chain of products on platform '{wildcards.platform}'"
    script:
        "../scripts/exp10_chain.py"


rule exp10_tensors_measure:
    """Chains of products on two platforms, compared."""
    input:
        unpack(graph.chains),
    output:
        steps="results/exp10/tensors/{pair}/steps.csv",
        types="results/exp10/tensors/{pair}/types.csv",
        statistics="results/exp10/tensors/{pair}/statistics.json",
    log:
        "logs/exp10/tensors/{pair}.log",
    benchmark:
        "benchmarks/exp10/tensors/{pair}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        code=graph.code("experiments.tensors"),
    message:
        "Comparing the chains of pair '{wildcards.pair}'"
    script:
        "../scripts/exp10_tensors.py"


rule exp10_tensors_figures:
    """Figure of the chains of products on two platforms."""
    input:
        steps=rules.exp10_tensors_measure.output.steps,
    output:
        **figures("exp10/tensors"),
    log:
        "logs/exp10/tensors/{pair}.figures.log",
    benchmark:
        "benchmarks/exp10/tensors/{pair}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        names=graph.pair_of,
        figures=graph.block("figures"),
        code=graph.code("figures.sweeps", "figures.save"),
    message:
        "Figure of exp10: pair '{wildcards.pair}'"
    script:
        "../scripts/exp10_tensors_figures.py"


rule exp10_tensors_summary:
    """Summary of the chains of exp10."""
    input:
        tables=files("results/exp10/tensors/{pair}/types.csv", graph.chain_rows()),
    output:
        table=summary("exp10/tensors"),
    log:
        "logs/exp10/tensors/summary.log",
    benchmark:
        "benchmarks/exp10/tensors/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp10/tensors",
        rows=graph.chain_rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the chains of exp10"
    script:
        "../scripts/summary_table.py"


rule exp10_measure:
    """Steps through small maps of one model at one prompt."""
    input:
        manifest=graph.manifest,
        matrices="results/exp9/{model}/matrices.csv",
    output:
        data="results/exp10/{model}/{prompt}/sweep.h5",
        sweep="results/exp10/{model}/{prompt}/sweep.csv",
        subjects="results/exp10/{model}/{prompt}/subjects.csv",
        statistics="results/exp10/{model}/{prompt}/statistics.json",
    log:
        "logs/exp10/{model}/{prompt}.log",
    benchmark:
        "benchmarks/exp10/{model}/{prompt}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        prompt=graph.prompt,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings=graph.block("exp10", *SWEEP_KEYS),
        code=graph.code("experiments.sweeps", "experiments.session"),
    message:
        "Steps through small maps of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp10.py"


rule exp10_figures:
    """Figure of exp10: one model at one prompt."""
    input:
        sweep=rules.exp10_measure.output.sweep,
    output:
        **figures("exp10"),
    log:
        "logs/exp10/{model}/{prompt}.figures.log",
    benchmark:
        "benchmarks/exp10/{model}/{prompt}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.sweeps", "figures.save"),
    message:
        "Figure of exp10: {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp10_figures.py"


rule exp10_summary:
    """Summary of exp10."""
    input:
        tables=files("results/exp10/{model}/{prompt}/subjects.csv", graph.rows()),
    output:
        table=summary("exp10"),
    log:
        "logs/exp10/summary.log",
    benchmark:
        "benchmarks/exp10/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp10",
        rows=graph.rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp10"
    script:
        "../scripts/summary_table.py"
