# Every weight matrix (exp9): a map of components from the model's anatomy, then statistics straight from the files.


rule exp9_components:
    """Component map of one model."""
    input:
        manifest=graph.manifest,
    output:
        components="results/exp9/{model}/components.json",
    log:
        "logs/exp9/{model}.components.log",
    benchmark:
        "benchmarks/exp9/{model}.components.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        probe=graph.block("probe", "threads", "max_memory"),
        code=graph.code("experiments.weight_components", "experiments.session"),
    message:
        "Component map of {wildcards.model}"
    script:
        "../scripts/exp9_components.py"


rule exp9_measure:
    """Weight matrices of one model."""
    input:
        manifest=graph.manifest,
        components=rules.exp9_components.output.components,
    output:
        data="results/exp9/{model}/spectra.h5",
        table="results/exp9/{model}/matrices.csv",
        by_component="results/exp9/{model}/components.csv",
        statistics="results/exp9/{model}/statistics.json",
    log:
        "logs/exp9/{model}.log",
    benchmark:
        "benchmarks/exp9/{model}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        settings=graph.block("exp9"),
        code=graph.code("experiments.weight_matrices"),
    message:
        "Weight matrices of {wildcards.model}"
    script:
        "../scripts/exp9.py"


rule exp9_figures:
    """Figures of exp9: one model."""
    input:
        data=rules.exp9_measure.output.data,
        table=rules.exp9_measure.output.table,
    output:
        **figures("exp9"),
    log:
        "logs/exp9/{model}.figures.log",
    benchmark:
        "benchmarks/exp9/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.matrices", "figures.matrix_spectra", "figures.save"),
    message:
        "Figures of exp9: {wildcards.model}"
    script:
        "../scripts/exp9_figures.py"


rule exp9_summary:
    """Summary of exp9."""
    input:
        tables=files("results/exp9/{model}/components.csv", graph.rows(prompts=False)),
    output:
        table=summary("exp9"),
    log:
        "logs/exp9/summary.log",
    benchmark:
        "benchmarks/exp9/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp9",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp9"
    script:
        "../scripts/summary_table.py"
