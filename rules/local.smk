# Local Jacobians of blocks and branches, their chain, and the modules of a layer (exp5).


rule exp5_measure:
    """Local Jacobians of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        data="results/exp5/{model}/{prompt}/local.h5",
        stages="results/exp5/{model}/{prompt}/stages.csv",
        modules="results/exp5/{model}/{prompt}/modules.csv",
        statistics="results/exp5/{model}/{prompt}/statistics.json",
    log:
        "logs/exp5/{model}/{prompt}.log",
    benchmark:
        "benchmarks/exp5/{model}/{prompt}.tsv"
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
        probe=graph.block("probe", *PROBE_KEYS, "arithmetic"),
        settings=graph.block("exp5"),
        code=graph.code("experiments.local_jacobians", "experiments.session"),
    message:
        "Local Jacobians of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp5.py"


rule exp5_figures:
    """Figures of exp5: one model at one prompt."""
    input:
        stages=rules.exp5_measure.output.stages,
        modules=rules.exp5_measure.output.modules,
        statistics=rules.exp5_measure.output.statistics,
    output:
        **figures("exp5"),
    log:
        "logs/exp5/{model}/{prompt}.figures.log",
    benchmark:
        "benchmarks/exp5/{model}/{prompt}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.local", "figures.save"),
    message:
        "Figures of exp5: {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp5_figures.py"


rule exp5_summary:
    """Summary of exp5."""
    input:
        statistics=files("results/exp5/{model}/{prompt}/statistics.json", graph.rows()),
    output:
        table=summary("exp5"),
    log:
        "logs/exp5/summary.log",
    benchmark:
        "benchmarks/exp5/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp5",
        rows=graph.rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp5"
    script:
        "../scripts/summary.py"
