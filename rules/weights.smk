# Critical weights: scores and rankings, the campaign that changes what they name, their stability and their agreement.


rule critical_rankings:
    """Scores and rankings of the weights of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        rankings="results/critical_weights/{model}/rankings.parquet",
        scores="results/critical_weights/{model}/scores.h5",
        components="results/critical_weights/{model}/components.csv",
        statistics="results/critical_weights/{model}/sensitivity_statistics.json",
    log:
        "logs/critical_weights/{model}.rankings.log",
    benchmark:
        "benchmarks/critical_weights/{model}.rankings.tsv"
    wildcard_constraints:
        model=graph.whole("critical_rankings"),
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("critical_rankings"),
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings=graph.block("critical_weights", *CRITICAL_SCORES, "sample", "sample_seed"),
        code=graph.code("experiments.critical_rankings", "experiments.session"),
    message:
        "Scores and rankings of the weights of {wildcards.model}"
    script:
        "../scripts/critical_rankings.py"


rule critical_weights_measure:
    """Effects of changing the critical weights of one model."""
    input:
        manifest=graph.manifest,
        rankings=rules.critical_rankings.output.rankings,
        texts=graph.text_files("calibration", "heldout"),
    output:
        table="results/critical_weights/{model}/perturbation_results.csv",
        controls="results/critical_weights/{model}/controls.csv",
        data="results/critical_weights/{model}/effects.h5",
        statistics="results/critical_weights/{model}/experiment_summary.json",
    log:
        "logs/critical_weights/{model}.log",
    benchmark:
        "benchmarks/critical_weights/{model}.tsv"
    wildcard_constraints:
        model=graph.whole("critical_weights"),
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
        settings=graph.block("critical_weights", *CRITICAL_EFFECTS),
        code=graph.code("experiments.critical_weights", "experiments.session"),
    message:
        "Effects of changing the critical weights of {wildcards.model}"
    script:
        "../scripts/critical_weights.py"


rule critical_stability:
    """Stability of the rankings of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        table="results/critical_weights/{model}/stability.csv",
        statistics="results/critical_weights/{model}/stability.json",
    log:
        "logs/critical_weights/{model}.stability.log",
    benchmark:
        "benchmarks/critical_weights/{model}.stability.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("critical_stability"),
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings=graph.block("critical_weights", *CRITICAL_SCORES, "stability_seeds", "persistence"),
        code=graph.code("experiments.critical_stability", "experiments.session"),
    message:
        "Stability of the rankings of {wildcards.model}"
    script:
        "../scripts/critical_stability.py"


rule critical_overlap:
    """Agreement, depth and tails of the scores of one model."""
    input:
        rankings=rules.critical_rankings.output.rankings,
        scores=rules.critical_rankings.output.scores,
        components=rules.critical_rankings.output.components,
    output:
        overlaps="results/critical_weights/{model}/overlap.csv",
        depth="results/critical_weights/{model}/depth.csv",
        statistics="results/critical_weights/{model}/overlap.json",
        tops=graph.top_tables(),
    log:
        "logs/critical_weights/{model}.overlap.log",
    benchmark:
        "benchmarks/critical_weights/{model}.overlap.tsv"
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.block("critical_weights", "metrics", "topk", "persistence", "tail_draws", "sample_seed"),
        code=graph.code("experiments.critical_overlap"),
    message:
        "Agreement, depth and tails of the scores of {wildcards.model}"
    script:
        "../scripts/critical_overlap.py"


rule critical_weights_figures:
    """Figures of critical_weights: one model."""
    input:
        table=rules.critical_weights_measure.output.table,
        controls=rules.critical_weights_measure.output.controls,
        stability=rules.critical_stability.output.table,
        overlaps=rules.critical_overlap.output.overlaps,
        depth=rules.critical_overlap.output.depth,
        scores=rules.critical_rankings.output.scores,
        statistics=rules.critical_overlap.output.statistics,
    output:
        **figures("critical_weights"),
    log:
        "logs/critical_weights/{model}.figures.log",
    benchmark:
        "benchmarks/critical_weights/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        settings=graph.block("critical_weights", "topk"),
        code=graph.code("figures.critical", "figures.save"),
    message:
        "Figures of critical_weights: {wildcards.model}"
    script:
        "../scripts/critical_weights_figures.py"


rule critical_weights_summary:
    """Summary of critical_weights."""
    input:
        tables=files("results/critical_weights/{model}/perturbation_results.csv", graph.rows(prompts=False)),
    output:
        table=summary("critical_weights"),
    log:
        "logs/critical_weights/summary.log",
    benchmark:
        "benchmarks/critical_weights/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="critical_weights",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of critical_weights"
    script:
        "../scripts/summary_table.py"
