# Nudges along given directions: exp1 (through the layers), exp11 (turned), exp14 (small steps).


rule exp1_measure:
    """Propagation through the layers of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        states="results/exp1/{model}/{prompt}/{numerics}/states.h5",
        layers="results/exp1/{model}/{prompt}/{numerics}/layers.csv",
        sweep="results/exp1/{model}/{prompt}/{numerics}/sweep.csv",
        walk="results/exp1/{model}/{prompt}/{numerics}/walk.parquet",
        statistics="results/exp1/{model}/{prompt}/{numerics}/statistics.json",
    log:
        "logs/exp1/{model}/{prompt}/{numerics}.log",
    benchmark:
        "benchmarks/exp1/{model}/{prompt}/{numerics}.tsv"
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
        probe=graph.block("probe", *PROBE_KEYS),
        settings=graph.block("exp1", "vectors", "start", "step", "jumps", "walk_steps", "threshold"),
        code=graph.code("experiments.propagation", "experiments.session"),
    message:
        "Propagation through the layers of {wildcards.model} at '{wildcards.prompt}' ({wildcards.numerics})"
    script:
        "../scripts/exp1.py"


rule exp1_figures:
    """Figures of exp1: one model at one prompt."""
    input:
        states=rules.exp1_measure.output.states,
        layers=rules.exp1_measure.output.layers,
        sweep=rules.exp1_measure.output.sweep,
        walk=rules.exp1_measure.output.walk,
    output:
        **figures("exp1"),
    log:
        "logs/exp1/{model}/{prompt}/{numerics}.figures.log",
    benchmark:
        "benchmarks/exp1/{model}/{prompt}/{numerics}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.propagation", "figures.save"),
    message:
        "Figures of exp1: {wildcards.model} at '{wildcards.prompt}' ({wildcards.numerics})"
    script:
        "../scripts/exp1_figures.py"


rule exp1_summary:
    """Summary of exp1."""
    input:
        statistics=files(
            "results/exp1/{model}/{prompt}/{numerics}/statistics.json",
            graph.rows(more=graph.axes("exp1")),
        ),
    output:
        table=summary("exp1"),
    log:
        "logs/exp1/summary.log",
    benchmark:
        "benchmarks/exp1/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp1",
        rows=graph.rows(more=graph.axes("exp1")),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp1"
    script:
        "../scripts/summary.py"


rule exp11_measure:
    """Turned directions of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        data="results/exp11/{model}/{prompt}/{arithmetic}/changes.h5",
        table="results/exp11/{model}/{prompt}/{arithmetic}/changes.csv",
        statistics="results/exp11/{model}/{prompt}/{arithmetic}/statistics.json",
    log:
        "logs/exp11/{model}/{prompt}/{arithmetic}.log",
    benchmark:
        "benchmarks/exp11/{model}/{prompt}/{arithmetic}.tsv"
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
        probe=graph.block("probe", *PROBE_KEYS),
        settings=graph.block("exp11"),
        code=graph.code("experiments.rotations", "experiments.session"),
    message:
        "Turned directions at {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp11.py"


rule exp11_figures:
    """Figures of exp11: one model at one prompt."""
    input:
        data=rules.exp11_measure.output.data,
        table=rules.exp11_measure.output.table,
    output:
        **figures("exp11"),
    log:
        "logs/exp11/{model}/{prompt}/{arithmetic}.figures.log",
    benchmark:
        "benchmarks/exp11/{model}/{prompt}/{arithmetic}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.rotations", "figures.save"),
    message:
        "Figures of exp11: {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp11_figures.py"


rule exp11_summary:
    """Summary of exp11."""
    input:
        statistics=files(
            "results/exp11/{model}/{prompt}/{arithmetic}/statistics.json",
            graph.rows(more=graph.axes("exp11")),
        ),
    output:
        table=summary("exp11"),
    log:
        "logs/exp11/summary.log",
    benchmark:
        "benchmarks/exp11/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp11",
        rows=graph.rows(more=graph.axes("exp11")),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp11"
    script:
        "../scripts/summary.py"


rule exp14_measure:
    """Small steps of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        data="results/exp14/{model}/{prompt}/{arithmetic}/walks.h5",
        steps="results/exp14/{model}/{prompt}/{arithmetic}/steps.parquet",
        jumps="results/exp14/{model}/{prompt}/{arithmetic}/jumps.csv",
        scaling="results/exp14/{model}/{prompt}/{arithmetic}/scaling.csv",
        statistics="results/exp14/{model}/{prompt}/{arithmetic}/statistics.json",
    log:
        "logs/exp14/{model}/{prompt}/{arithmetic}.log",
    benchmark:
        "benchmarks/exp14/{model}/{prompt}/{arithmetic}.tsv"
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
        probe=graph.block("probe", *PROBE_KEYS),
        settings=graph.block("exp14"),
        code=graph.code("experiments.small_steps", "experiments.session"),
    message:
        "Small steps at {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp14.py"


rule exp14_figures:
    """Figures of exp14: one model at one prompt."""
    input:
        steps=rules.exp14_measure.output.steps,
        scaling=rules.exp14_measure.output.scaling,
    output:
        **figures("exp14"),
    log:
        "logs/exp14/{model}/{prompt}/{arithmetic}.figures.log",
    benchmark:
        "benchmarks/exp14/{model}/{prompt}/{arithmetic}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.small_steps", "figures.save"),
    message:
        "Figures of exp14: {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp14_figures.py"


rule exp14_summary:
    """Summary of exp14."""
    input:
        statistics=files(
            "results/exp14/{model}/{prompt}/{arithmetic}/statistics.json",
            graph.rows(more=graph.axes("exp14")),
        ),
    output:
        table=summary("exp14"),
    log:
        "logs/exp14/summary.log",
    benchmark:
        "benchmarks/exp14/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp14",
        rows=graph.rows(more=graph.axes("exp14")),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp14"
    script:
        "../scripts/summary.py"
