# Precision (exp3): one job of the model for each precision and all prompts, then tables without a model.


rule exp3_states:
    """Answers of one model in one precision."""
    input:
        manifest=graph.manifest,
    output:
        data="results/exp3/{model}/states/{precision}.h5",
        table="results/exp3/{model}/states/{precision}.csv",
    log:
        "logs/exp3/{model}/states/{precision}.log",
    benchmark:
        "benchmarks/exp3/{model}/states/{precision}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        prompts={name: graph.plain["prompts"][name] for name in graph.prompts},
        probe=graph.block("probe", *PROBE_KEYS),
        settings=graph.block("exp3", "top_tokens"),
        code=graph.code("experiments.precision_states", "experiments.session"),
    message:
        "Answers of {wildcards.model} in {wildcards.precision}"
    script:
        "../scripts/exp3_states.py"


rule exp3_measure:
    """What number formats make of one model at one prompt."""
    input:
        spectrum=graph.spectrum,
        states=expand("results/exp3/{{model}}/states/{precision}.h5", precision=graph.config.exp3.precisions),
        tops=expand("results/exp3/{{model}}/states/{precision}.csv", precision=graph.config.exp3.precisions),
    output:
        data="results/exp3/{model}/{prompt}/survivors.h5",
        coordinates="results/exp3/{model}/{prompt}/coordinates.csv",
        survival="results/exp3/{model}/{prompt}/survival.csv",
        levels="results/exp3/{model}/{prompt}/levels.csv",
        precisions="results/exp3/{model}/{prompt}/precisions.csv",
        top="results/exp3/{model}/{prompt}/top.csv",
        statistics="results/exp3/{model}/{prompt}/statistics.json",
    log:
        "logs/exp3/{model}/{prompt}.log",
    benchmark:
        "benchmarks/exp3/{model}/{prompt}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.block("exp3", "vector", "powers", "significant_bits"),
        code=graph.code("experiments.precision"),
    message:
        "Precision at {wildcards.model}, '{wildcards.prompt}'"
    script:
        "../scripts/exp3.py"


rule exp3_figures:
    """Figure of exp3: one model at one prompt."""
    input:
        survival=rules.exp3_measure.output.survival,
        levels=rules.exp3_measure.output.levels,
        precisions=rules.exp3_measure.output.precisions,
    output:
        **figures("exp3"),
    log:
        "logs/exp3/{model}/{prompt}.figures.log",
    benchmark:
        "benchmarks/exp3/{model}/{prompt}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.precision", "figures.save"),
    message:
        "Figure of exp3: {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp3_figures.py"


rule exp3_summary:
    """Summary of exp3."""
    input:
        statistics=files("results/exp3/{model}/{prompt}/statistics.json", graph.rows()),
    output:
        table=summary("exp3"),
    log:
        "logs/exp3/summary.log",
    benchmark:
        "benchmarks/exp3/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp3",
        rows=graph.rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp3"
    script:
        "../scripts/summary.py"
