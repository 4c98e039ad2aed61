# Delta studies: models of different architectures compared; the gain of every layer (delta/jacobian).


rule delta_jacobian_measure:
    """Gain of every layer of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.delta_texts,
    output:
        data="results/delta/jacobian/{model}/gain.h5",
        table="results/delta/jacobian/{model}/gain.csv",
        ranks="results/delta/jacobian/{model}/ranks.csv",
        statistics="results/delta/jacobian/{model}/gain.json",
    log:
        "logs/delta/jacobian/{model}.log",
    benchmark:
        "benchmarks/delta/jacobian/{model}.tsv"
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
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings=graph.delta_jacobian(),
        code=graph.code("experiments.delta_jacobian", "experiments.session"),
    message:
        "Gain of every layer of {wildcards.model}"
    script:
        "../scripts/delta_jacobian.py"


rule delta_jacobian_comparison:
    """Layers of the models at common relative depths."""
    input:
        tables=files("results/delta/jacobian/{model}/gain.csv", graph.delta_rows()),
    output:
        table="results/delta/jacobian/comparison.csv",
    log:
        "logs/delta/jacobian/comparison.log",
    benchmark:
        "benchmarks/delta/jacobian/comparison.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        rows=graph.delta_rows(),
        depths=graph.config.delta.jacobian.depths,
        code=graph.code("experiments.delta_depths"),
    message:
        "Layers of the models at common relative depths"
    script:
        "../scripts/delta_jacobian_comparison.py"


rule delta_jacobian_figures:
    """Figures of delta/jacobian."""
    input:
        tables=files("results/delta/jacobian/{model}/gain.csv", graph.delta_rows()),
        ranks=files("results/delta/jacobian/{model}/ranks.csv", graph.delta_rows()),
    output:
        **figures("delta/jacobian"),
    log:
        "logs/delta/jacobian/figures.log",
    benchmark:
        "benchmarks/delta/jacobian/figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        rows=graph.delta_rows(),
        figures=graph.block("figures"),
        code=graph.code("figures.delta", "figures.save"),
    message:
        "Figures of delta/jacobian"
    script:
        "../scripts/delta_jacobian_figures.py"


rule delta_jacobian_summary:
    """Summary of delta/jacobian."""
    input:
        tables=files("results/delta/jacobian/{model}/gain.csv", graph.delta_rows()),
    output:
        table=summary("delta/jacobian"),
    log:
        "logs/delta/jacobian/summary.log",
    benchmark:
        "benchmarks/delta/jacobian/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="delta/jacobian",
        rows=graph.delta_rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of delta/jacobian"
    script:
        "../scripts/summary_table.py"
