# Stability boundaries (exp12 in a plane, exp13 along singular vectors) and the distances at them (exp15).


rule exp12_measure:
    """Boundary in the plane of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        data="results/exp12/{model}/{prompt}/{arithmetic}/boundary.h5",
        table="results/exp12/{model}/{prompt}/{arithmetic}/boundary.csv",
        statistics="results/exp12/{model}/{prompt}/{arithmetic}/statistics.json",
    log:
        "logs/exp12/{model}/{prompt}/{arithmetic}.log",
    benchmark:
        "benchmarks/exp12/{model}/{prompt}/{arithmetic}.tsv"
    wildcard_constraints:
        model=graph.whole("exp12"),
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
        settings=graph.block("exp12"),
        code=graph.code("experiments.boundary", "experiments.session"),
    message:
        "Boundary in the plane of {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp12.py"


rule exp12_figures:
    """Figures of exp12: one model at one prompt."""
    input:
        data=rules.exp12_measure.output.data,
    output:
        **figures("exp12"),
    log:
        "logs/exp12/{model}/{prompt}/{arithmetic}.figures.log",
    benchmark:
        "benchmarks/exp12/{model}/{prompt}/{arithmetic}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.boundary", "figures.save"),
    message:
        "Figures of exp12: {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp12_figures.py"


rule exp12_summary:
    """Summary of exp12."""
    input:
        statistics=files(
            "results/exp12/{model}/{prompt}/{arithmetic}/statistics.json",
            graph.rows(arithmetic=True),
        ),
    output:
        table=summary("exp12"),
    log:
        "logs/exp12/summary.log",
    benchmark:
        "benchmarks/exp12/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp12",
        rows=graph.rows(arithmetic=True),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp12"
    script:
        "../scripts/summary.py"


rule exp13_measure:
    """Boundary along singular vectors of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        data="results/exp13/{model}/{prompt}/{arithmetic}/boundary.h5",
        table="results/exp13/{model}/{prompt}/{arithmetic}/boundary.csv",
        statistics="results/exp13/{model}/{prompt}/{arithmetic}/statistics.json",
    log:
        "logs/exp13/{model}/{prompt}/{arithmetic}.log",
    benchmark:
        "benchmarks/exp13/{model}/{prompt}/{arithmetic}.tsv"
    wildcard_constraints:
        model=graph.whole("exp13"),
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
        settings=graph.block("exp13"),
        code=graph.code("experiments.boundary", "experiments.session"),
    message:
        "Boundary along singular vectors of {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp13.py"


rule exp13_figures:
    """Figures of exp13: one model at one prompt."""
    input:
        data=rules.exp13_measure.output.data,
        statistics=rules.exp13_measure.output.statistics,
    output:
        **figures("exp13"),
    log:
        "logs/exp13/{model}/{prompt}/{arithmetic}.figures.log",
    benchmark:
        "benchmarks/exp13/{model}/{prompt}/{arithmetic}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.vectors", "figures.save"),
    message:
        "Figures of exp13: {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp13_figures.py"


rule exp13_summary:
    """Summary of exp13."""
    input:
        statistics=files(
            "results/exp13/{model}/{prompt}/{arithmetic}/statistics.json",
            graph.rows(arithmetic=True),
        ),
    output:
        table=summary("exp13"),
    log:
        "logs/exp13/summary.log",
    benchmark:
        "benchmarks/exp13/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp13",
        rows=graph.rows(arithmetic=True),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp13"
    script:
        "../scripts/summary.py"


rule exp15_measure:
    """Distances at the boundary of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
        boundary=graph.boundary,
    output:
        table="results/exp15/{model}/{prompt}/{arithmetic}/{variant}/distances.csv",
        statistics="results/exp15/{model}/{prompt}/{arithmetic}/{variant}/statistics.json",
    log:
        "logs/exp15/{model}/{prompt}/{arithmetic}/{variant}.log",
    benchmark:
        "benchmarks/exp15/{model}/{prompt}/{arithmetic}/{variant}.tsv"
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
        settings=graph.block("exp15", "noise_samples", "noise_seed"),
        code=graph.code("experiments.distances", "experiments.session"),
    message:
        "Distances at the boundary ({wildcards.variant}) of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp15.py"


rule exp15_figures:
    """Figures of exp15: one model at one prompt."""
    input:
        table=rules.exp15_measure.output.table,
    output:
        **figures("exp15"),
    log:
        "logs/exp15/{model}/{prompt}/{arithmetic}/{variant}.figures.log",
    benchmark:
        "benchmarks/exp15/{model}/{prompt}/{arithmetic}/{variant}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.distances", "figures.save"),
    message:
        "Figures of exp15 ({wildcards.variant}): {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp15_figures.py"


rule exp15_summary:
    """Summary of exp15."""
    input:
        statistics=files(
            "results/exp15/{model}/{prompt}/{arithmetic}/{variant}/statistics.json",
            graph.rows(arithmetic=True, more={"variant": graph.config.exp15.variants}),
        ),
    output:
        table=summary("exp15"),
    log:
        "logs/exp15/summary.log",
    benchmark:
        "benchmarks/exp15/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp15",
        rows=graph.rows(arithmetic=True, more={"variant": graph.config.exp15.variants}),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp15"
    script:
        "../scripts/summary.py"
