# Analyses of esa that look at a model as a whole: evaluate, train, attribution; and their joint report.


rule esa_evaluate_measure:
    """Evaluation of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.evaluation_files,
        tasks=graph.task_files,
    output:
        texts="results/esa/evaluate/{model}/texts.csv",
        domains="results/esa/evaluate/{model}/domains.csv",
        bins="results/esa/evaluate/{model}/calibration.csv",
        tasks="results/esa/evaluate/{model}/tasks.csv",
        generations="results/esa/evaluate/{model}/generations.json",
        statistics="results/esa/evaluate/{model}/statistics.json",
    log:
        "logs/esa/evaluate/{model}.log",
    benchmark:
        "benchmarks/esa/evaluate/{model}.tsv"
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
        settings=graph.esa("evaluate"),
        code=graph.code("experiments.esa_evaluate", "experiments.session"),
    message:
        "Evaluation of {wildcards.model}"
    script:
        "../scripts/esa_evaluate.py"


rule esa_train_measure:
    """Fine-tuning of one model."""
    input:
        manifest=graph.manifest,
        file=graph.training_file,
        texts=graph.text_files("calibration", "heldout"),
    output:
        model=directory("results/esa/train/{model}/model"),
        manifest="results/esa/train/{model}/manifest.json",
        losses="results/esa/train/{model}/losses.csv",
        evaluation="results/esa/train/{model}/evaluation.csv",
        statistics="results/esa/train/{model}/statistics.json",
    log:
        "logs/esa/train/{model}.log",
    benchmark:
        "benchmarks/esa/train/{model}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.training_memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts", "batch_size"),
        settings=graph.esa("train"),
        code=graph.code("experiments.esa_train", "experiments.session"),
    message:
        "Fine-tuning of {wildcards.model}"
    script:
        "../scripts/esa_train.py"


rule esa_attribution_components:
    """Components of one model, for attribution."""
    input:
        manifest=graph.manifest,
        effects="results/esa/sensitivity/{model}/effects.csv",
        texts=graph.text_files("calibration", "heldout"),
    output:
        components="results/esa/attribution/{model}/components.csv",
    log:
        "logs/esa/attribution/{model}.components.log",
    benchmark:
        "benchmarks/esa/attribution/{model}.components.tsv"
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
        texts=graph.esa("texts", "calibration"),
        scores=graph.esa("scores"),
        settings=graph.esa("attribution", "level"),
        code=graph.code("experiments.esa_attribution", "experiments.session"),
    message:
        "Components of {wildcards.model}, for attribution"
    script:
        "../scripts/esa_attribution_components.py"


rule esa_attribution_measure:
    """A language model ranks the components of one model."""
    input:
        manifest=lambda wildcards: graph.manifest(graph.judge(wildcards)),
        components=rules.esa_attribution_components.output.components,
    output:
        answers="results/esa/attribution/{model}/answers.csv",
        methods="results/esa/attribution/{model}/methods.csv",
        statistics="results/esa/attribution/{model}/statistics.json",
    log:
        "logs/esa/attribution/{model}.log",
    benchmark:
        "benchmarks/esa/attribution/{model}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=lambda wildcards: graph.directory(graph.judge(wildcards)),
        attention=lambda wildcards: graph.attention(graph.judge(wildcards)),
        dtype=lambda wildcards: graph.model_dtype(graph.judge(wildcards)),
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings=graph.esa("attribution"),
        code=graph.code("experiments.esa_attribution", "experiments.session"),
    message:
        "A language model ranks the components of {wildcards.model}"
    script:
        "../scripts/esa_attribution.py"


rule esa_tuned_super_weights:
    """Super weights of one model after fine-tuning."""
    input:
        manifest=rules.esa_train_measure.output.manifest,
        model=rules.esa_train_measure.output.model,
        texts=graph.text_files("calibration", "heldout"),
    output:
        weights="results/esa/integrated/{model}/weights.csv",
        peaks="results/esa/integrated/{model}/peaks.csv",
        effects="results/esa/integrated/{model}/effects.csv",
        changes="results/esa/integrated/{model}/changes.csv",
        statistics="results/esa/integrated/{model}/statistics.json",
    log:
        "logs/esa/integrated/{model}.log",
    benchmark:
        "benchmarks/esa/integrated/{model}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("esa_tuned_super_weights"),
    params:
        directory=lambda wildcards, input: str(input.model),
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts"),
        scores=graph.esa("scores"),
        settings=lambda wildcards: graph.tuned_settings(),
        code=graph.code("experiments.esa_super_weights", "experiments.session"),
    message:
        "Super weights of {wildcards.model} after fine-tuning"
    script:
        "../scripts/esa_super_weights.py"


rule esa_integrated:
    """What do all these say together, before and after fine-tuning?"""
    input:
        **graph.integrated(),
    output:
        table=summary("esa/integrated"),
        report="results/esa/integrated/report.json",
    log:
        "logs/esa/integrated/summary.log",
    benchmark:
        "benchmarks/esa/integrated/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.esa("integrated", "analyses"),
        methods=lambda wildcards: graph.tuned_methods if graph.config.esa.integrated.tuned else [],
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.esa_integrated"),
    message:
        "Report of all extreme sensitivity analyses"
    script:
        "../scripts/esa_integrated.py"


rule esa_evaluate_figures:
    """Figures of esa/evaluate: one model."""
    input:
        bins=rules.esa_evaluate_measure.output.bins,
        domains=rules.esa_evaluate_measure.output.domains,
    output:
        **figures("esa/evaluate"),
    log:
        "logs/esa/evaluate/{model}.figures.log",
    benchmark:
        "benchmarks/esa/evaluate/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_models", "figures.save"),
    message:
        "Figures of esa/evaluate: {wildcards.model}"
    script:
        "../scripts/esa_models_figures.py"


rule esa_train_figures:
    """Figures of esa/train: one model."""
    input:
        losses=rules.esa_train_measure.output.losses,
        evaluation=rules.esa_train_measure.output.evaluation,
    output:
        **figures("esa/train"),
    log:
        "logs/esa/train/{model}.figures.log",
    benchmark:
        "benchmarks/esa/train/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_models", "figures.save"),
    message:
        "Figures of esa/train: {wildcards.model}"
    script:
        "../scripts/esa_models_figures.py"


rule esa_attribution_figures:
    """Figures of esa/attribution: one model."""
    input:
        answers=rules.esa_attribution_measure.output.answers,
        methods=rules.esa_attribution_measure.output.methods,
    output:
        **figures("esa/attribution"),
    log:
        "logs/esa/attribution/{model}.figures.log",
    benchmark:
        "benchmarks/esa/attribution/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_models", "figures.save"),
    message:
        "Figures of esa/attribution: {wildcards.model}"
    script:
        "../scripts/esa_models_figures.py"


rule esa_integrated_figures:
    """Figure of esa/integrated."""
    input:
        table=rules.esa_integrated.output.table,
    output:
        **figures("esa/integrated"),
    log:
        "logs/esa/integrated/figures.log",
    benchmark:
        "benchmarks/esa/integrated/figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_models", "figures.save"),
    message:
        "Figure of esa/integrated"
    script:
        "../scripts/esa_models_figures.py"


rule esa_evaluate_summary:
    """Summary of esa/evaluate."""
    input:
        statistics=files("results/esa/evaluate/{model}/statistics.json", graph.rows(prompts=False)),
    output:
        table=summary("esa/evaluate"),
    log:
        "logs/esa/evaluate/summary.log",
    benchmark:
        "benchmarks/esa/evaluate/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/evaluate",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/evaluate"
    script:
        "../scripts/summary.py"


rule esa_train_summary:
    """Summary of esa/train."""
    input:
        statistics=files("results/esa/train/{model}/statistics.json", graph.rows(prompts=False)),
    output:
        table=summary("esa/train"),
    log:
        "logs/esa/train/summary.log",
    benchmark:
        "benchmarks/esa/train/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/train",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/train"
    script:
        "../scripts/summary.py"


rule esa_attribution_summary:
    """Summary of esa/attribution."""
    input:
        tables=files("results/esa/attribution/{model}/methods.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/attribution"),
    log:
        "logs/esa/attribution/summary.log",
    benchmark:
        "benchmarks/esa/attribution/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/attribution",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/attribution"
    script:
        "../scripts/summary_table.py"
