# Extreme sensitivity analyses that remove: components, shares of weights, selections, and pruning.


rule esa_sensitivity_measure:
    """Every component of one model taken out."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        effects="results/esa/sensitivity/{model}/effects.csv",
        statistics="results/esa/sensitivity/{model}/statistics.json",
    log:
        "logs/esa/sensitivity/{model}.log",
    benchmark:
        "benchmarks/esa/sensitivity/{model}.tsv"
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
        texts=graph.esa("texts"),
        settings=graph.esa("sensitivity"),
        code=graph.code("experiments.esa_sensitivity", "experiments.session"),
    message:
        "Every component of {wildcards.model} taken out"
    script:
        "../scripts/esa_sensitivity.py"


rule esa_sensitivity_figures:
    """Figures of esa/sensitivity: one model."""
    input:
        table=rules.esa_sensitivity_measure.output.effects,
    output:
        **figures("esa/sensitivity"),
    log:
        "logs/esa/sensitivity/{model}.figures.log",
    benchmark:
        "benchmarks/esa/sensitivity/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        analysis="sensitivity",
        figures=graph.block("figures"),
        code=graph.code("figures.esa_ablation", "figures.save"),
    message:
        "Figures of esa/sensitivity: {wildcards.model}"
    script:
        "../scripts/esa_ablation_figures.py"


rule esa_sensitivity_summary:
    """Summary of esa/sensitivity."""
    input:
        tables=files("results/esa/sensitivity/{model}/effects.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/sensitivity"),
    log:
        "logs/esa/sensitivity/summary.log",
    benchmark:
        "benchmarks/esa/sensitivity/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/sensitivity",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/sensitivity"
    script:
        "../scripts/summary_table.py"


rule esa_targeted_perturbation_measure:
    """Rising shares of the most important weights of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        effects="results/esa/targeted-perturbation/{model}/effects.csv",
        draws="results/esa/targeted-perturbation/{model}/draws.csv",
        statistics="results/esa/targeted-perturbation/{model}/statistics.json",
    log:
        "logs/esa/targeted-perturbation/{model}.log",
    benchmark:
        "benchmarks/esa/targeted-perturbation/{model}.tsv"
    wildcard_constraints:
        model=graph.whole("esa_targeted_perturbation"),
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("esa_targeted_perturbation"),
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts"),
        scores=graph.esa("scores"),
        settings=graph.esa("targeted_perturbation"),
        code=graph.code("experiments.esa_targeted", "experiments.session"),
    message:
        "Rising shares of the most important weights of {wildcards.model}"
    script:
        "../scripts/esa_targeted_perturbation.py"


rule esa_targeted_perturbation_figures:
    """Figures of esa/targeted-perturbation: one model."""
    input:
        table=rules.esa_targeted_perturbation_measure.output.effects,
    output:
        **figures("esa/targeted-perturbation"),
    log:
        "logs/esa/targeted-perturbation/{model}.figures.log",
    benchmark:
        "benchmarks/esa/targeted-perturbation/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        analysis="targeted-perturbation",
        figures=graph.block("figures"),
        code=graph.code("figures.esa_ablation", "figures.save"),
    message:
        "Figures of esa/targeted-perturbation: {wildcards.model}"
    script:
        "../scripts/esa_ablation_figures.py"


rule esa_targeted_perturbation_summary:
    """Summary of esa/targeted-perturbation."""
    input:
        tables=files("results/esa/targeted-perturbation/{model}/effects.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/targeted-perturbation"),
    log:
        "logs/esa/targeted-perturbation/summary.log",
    benchmark:
        "benchmarks/esa/targeted-perturbation/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/targeted-perturbation",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/targeted-perturbation"
    script:
        "../scripts/summary_table.py"


rule esa_selective_weight_pruning_measure:
    """Selections of weights of one model replaced."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
        files=graph.selection_files(),
    output:
        effects="results/esa/selective-weight-pruning/{model}/effects.csv",
        generations="results/esa/selective-weight-pruning/{model}/generations.json",
        selections="results/esa/selective-weight-pruning/{model}/selections.json",
    log:
        "logs/esa/selective-weight-pruning/{model}.log",
    benchmark:
        "benchmarks/esa/selective-weight-pruning/{model}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("esa_selective_weight_pruning"),
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts"),
        scores=graph.esa("scores"),
        settings=graph.esa("selective_weight_pruning"),
        code=graph.code("experiments.esa_selective", "experiments.session"),
    message:
        "Selections of weights of {wildcards.model} replaced"
    script:
        "../scripts/esa_selective_weight_pruning.py"


rule esa_selective_weight_pruning_figures:
    """Figures of esa/selective-weight-pruning: one model."""
    input:
        table=rules.esa_selective_weight_pruning_measure.output.effects,
    output:
        **figures("esa/selective-weight-pruning"),
    log:
        "logs/esa/selective-weight-pruning/{model}.figures.log",
    benchmark:
        "benchmarks/esa/selective-weight-pruning/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        analysis="selective-weight-pruning",
        figures=graph.block("figures"),
        code=graph.code("figures.esa_ablation", "figures.save"),
    message:
        "Figures of esa/selective-weight-pruning: {wildcards.model}"
    script:
        "../scripts/esa_ablation_figures.py"


rule esa_selective_weight_pruning_summary:
    """Summary of esa/selective-weight-pruning."""
    input:
        tables=files("results/esa/selective-weight-pruning/{model}/effects.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/selective-weight-pruning"),
    log:
        "logs/esa/selective-weight-pruning/summary.log",
    benchmark:
        "benchmarks/esa/selective-weight-pruning/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/selective-weight-pruning",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/selective-weight-pruning"
    script:
        "../scripts/summary_table.py"


rule esa_pruning_measure:
    """Pruning of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        curves="results/esa/pruning/{model}/curves.csv",
        checkpoints=directory("results/esa/pruning/{model}/checkpoints"),
        statistics="results/esa/pruning/{model}/statistics.json",
    log:
        "logs/esa/pruning/{model}.log",
    benchmark:
        "benchmarks/esa/pruning/{model}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("esa_pruning"),
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts"),
        scores=graph.esa("scores"),
        settings=graph.esa("pruning"),
        code=graph.code("experiments.esa_pruning", "experiments.session"),
    message:
        "Pruning of {wildcards.model}"
    script:
        "../scripts/esa_pruning.py"


rule esa_pruning_figures:
    """Figures of esa/pruning: one model."""
    input:
        table=rules.esa_pruning_measure.output.curves,
    output:
        **figures("esa/pruning"),
    log:
        "logs/esa/pruning/{model}.figures.log",
    benchmark:
        "benchmarks/esa/pruning/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        analysis="pruning",
        figures=graph.block("figures"),
        code=graph.code("figures.esa_ablation", "figures.save"),
    message:
        "Figures of esa/pruning: {wildcards.model}"
    script:
        "../scripts/esa_ablation_figures.py"


rule esa_pruning_summary:
    """Summary of esa/pruning."""
    input:
        tables=files("results/esa/pruning/{model}/curves.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/pruning"),
    log:
        "logs/esa/pruning/summary.log",
    benchmark:
        "benchmarks/esa/pruning/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/pruning",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/pruning"
    script:
        "../scripts/summary_table.py"
