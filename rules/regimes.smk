# Gain over the size of a step: the stable, the chaotic and the signal-dominated regime.


rule regimes_measure:
    """Regimes of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        data="results/regimes/{model}/{prompt}/regimes.h5",
        steps="results/regimes/{model}/{prompt}/steps.parquet",
        avalanche="results/regimes/{model}/{prompt}/avalanche.parquet",
        bands="results/regimes/{model}/{prompt}/bands.csv",
        crossovers="results/regimes/{model}/{prompt}/crossovers.csv",
        statistics="results/regimes/{model}/{prompt}/statistics.json",
    log:
        "logs/regimes/{model}/{prompt}.log",
    benchmark:
        "benchmarks/regimes/{model}/{prompt}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.regimes_memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        prompt=graph.prompt,
        probe=graph.block("probe", *PROBE_KEYS),
        settings=graph.block("regimes"),
        code=graph.code("experiments.regimes", "experiments.session"),
    message:
        "Regimes of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/regimes.py"


rule regimes_figures:
    """Figures of the regimes: one model at one prompt."""
    input:
        steps=rules.regimes_measure.output.steps,
        avalanche=rules.regimes_measure.output.avalanche,
        bands=rules.regimes_measure.output.bands,
        crossovers=rules.regimes_measure.output.crossovers,
        statistics=rules.regimes_measure.output.statistics,
    output:
        **figures("regimes"),
    log:
        "logs/regimes/{model}/{prompt}.figures.log",
    benchmark:
        "benchmarks/regimes/{model}/{prompt}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.regimes", "figures.save"),
    message:
        "Figures of the regimes: {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/regimes_figures.py"


rule regimes_summary:
    """Summary of the regimes."""
    input:
        statistics=files("results/regimes/{model}/{prompt}/statistics.json", graph.rows()),
    output:
        table=summary("regimes"),
    log:
        "logs/regimes/summary.log",
    benchmark:
        "benchmarks/regimes/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="regimes",
        rows=graph.rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the regimes"
    script:
        "../scripts/summary.py"
