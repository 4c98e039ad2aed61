# Cross-examination: spectrum, noise floor and boundary with the weights changed that scores name.


rule cross_measure:
    """Cross-examination of one model at one prompt."""
    input:
        unpack(graph.cross_lists),
        manifest=graph.manifest,
        spectrum=graph.spectrum,
        texts=graph.text_files("calibration", "heldout"),
    output:
        table="results/cross/{model}/{prompt}/cross.csv",
        controls="results/cross/{model}/{prompt}/controls.csv",
        data="results/cross/{model}/{prompt}/cross.h5",
        statistics="results/cross/{model}/{prompt}/statistics.json",
    log:
        "logs/cross/{model}/{prompt}.log",
    benchmark:
        "benchmarks/cross/{model}/{prompt}.tsv"
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
        probe=graph.block("probe", "mode", "device", "threads", "max_memory", "aa_repeats"),
        spectrum=graph.block("spectrum"),
        settings=graph.cross(),
        code=graph.code("experiments.cross", "experiments.session"),
    message:
        "Cross-examination of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/cross.py"


rule cross_figures:
    """Figures of cross: one model at one prompt."""
    input:
        table=rules.cross_measure.output.table,
        controls=rules.cross_measure.output.controls,
    output:
        **figures("cross"),
    log:
        "logs/cross/{model}/{prompt}.figures.log",
    benchmark:
        "benchmarks/cross/{model}/{prompt}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.cross", "figures.save"),
    message:
        "Figures of cross: {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/cross_figures.py"


rule cross_summary:
    """Summary of cross."""
    input:
        tables=files("results/cross/{model}/{prompt}/cross.csv", graph.rows()),
    output:
        table=summary("cross"),
    log:
        "logs/cross/summary.log",
    benchmark:
        "benchmarks/cross/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="cross",
        rows=graph.rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of cross"
    script:
        "../scripts/summary_table.py"
