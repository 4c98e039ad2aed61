# Extreme sensitivity analyses (esa): one target each under results/esa/<analysis>/summary.csv.


rule esa_super_weights_measure:
    """Super weights of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        weights="results/esa/super-weights/{model}/weights.csv",
        peaks="results/esa/super-weights/{model}/peaks.csv",
        effects="results/esa/super-weights/{model}/effects.csv",
        changes="results/esa/super-weights/{model}/changes.csv",
        statistics="results/esa/super-weights/{model}/statistics.json",
    log:
        "logs/esa/super-weights/{model}.log",
    benchmark:
        "benchmarks/esa/super-weights/{model}.tsv"
    wildcard_constraints:
        model=graph.whole("esa_super_weights"),
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("esa_super_weights"),
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts"),
        scores=graph.esa("scores"),
        settings=graph.esa("super_weights"),
        code=graph.code("experiments.esa_super_weights", "experiments.session"),
    message:
        "Super weights of {wildcards.model}"
    script:
        "../scripts/esa_super_weights.py"


rule esa_super_weights_figures:
    """Figures of esa/super-weights: one model."""
    input:
        effects=rules.esa_super_weights_measure.output.effects,
        peaks=rules.esa_super_weights_measure.output.peaks,
        changes=rules.esa_super_weights_measure.output.changes,
    output:
        **figures("esa/super-weights"),
    log:
        "logs/esa/super-weights/{model}.figures.log",
    benchmark:
        "benchmarks/esa/super-weights/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_scores", "figures.save"),
    message:
        "Figures of esa/super-weights: {wildcards.model}"
    script:
        "../scripts/esa_super_weights_figures.py"


rule esa_super_weights_summary:
    """Summary of esa/super-weights."""
    input:
        tables=files("results/esa/super-weights/{model}/effects.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/super-weights"),
    log:
        "logs/esa/super-weights/summary.log",
    benchmark:
        "benchmarks/esa/super-weights/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/super-weights",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/super-weights"
    script:
        "../scripts/summary_table.py"


rule esa_compare_sensitivity_measure:
    """Comparison of the sensitivity methods of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        weights="results/esa/compare-sensitivity/{model}/weights.csv",
        methods="results/esa/compare-sensitivity/{model}/methods.csv",
        pairs="results/esa/compare-sensitivity/{model}/pairs.csv",
        statistics="results/esa/compare-sensitivity/{model}/statistics.json",
    log:
        "logs/esa/compare-sensitivity/{model}.log",
    benchmark:
        "benchmarks/esa/compare-sensitivity/{model}.tsv"
    wildcard_constraints:
        model=graph.whole("esa_compare_sensitivity"),
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("esa_compare_sensitivity"),
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts"),
        scores=graph.esa("scores"),
        settings=graph.esa("compare_sensitivity"),
        code=graph.code("experiments.esa_compare", "experiments.session"),
    message:
        "Comparison of the sensitivity methods of {wildcards.model}"
    script:
        "../scripts/esa_compare_sensitivity.py"


rule esa_compare_sensitivity_figures:
    """Figures of esa/compare-sensitivity: one model."""
    input:
        methods=rules.esa_compare_sensitivity_measure.output.methods,
        pairs=rules.esa_compare_sensitivity_measure.output.pairs,
    output:
        **figures("esa/compare-sensitivity"),
    log:
        "logs/esa/compare-sensitivity/{model}.figures.log",
    benchmark:
        "benchmarks/esa/compare-sensitivity/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_scores", "figures.save"),
    message:
        "Figures of esa/compare-sensitivity: {wildcards.model}"
    script:
        "../scripts/esa_compare_sensitivity_figures.py"


rule esa_compare_sensitivity_summary:
    """Summary of esa/compare-sensitivity."""
    input:
        tables=files("results/esa/compare-sensitivity/{model}/pairs.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/compare-sensitivity"),
    log:
        "logs/esa/compare-sensitivity/summary.log",
    benchmark:
        "benchmarks/esa/compare-sensitivity/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/compare-sensitivity",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/compare-sensitivity"
    script:
        "../scripts/summary_table.py"
