# Delta studies of neurons and facts: chosen units ablated (delta/percentage, delta/factual), causal tracing.


rule delta_neurons:
    """Neurons of one model for each relation."""
    input:
        manifest=graph.manifest,
        texts=graph.delta_fact_files,
    output:
        table="results/delta/neurons/{model}/neurons.csv",
        reference="results/delta/neurons/{model}/reference.h5",
    log:
        "logs/delta/neurons/{model}.log",
    benchmark:
        "benchmarks/delta/neurons/{model}.tsv"
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
        facts=graph.delta("facts"),
        neurons=graph.delta("neurons"),
        code=graph.code("experiments.delta_ablation", "experiments.session"),
    message:
        "Neurons of {wildcards.model} for each relation"
    script:
        "../scripts/delta_neurons.py"


rule delta_ablation:
    """Ablation of neurons of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.delta_fact_files,
        neurons=rules.delta_neurons.output.table,
        reference=rules.delta_neurons.output.reference,
    output:
        data="results/delta/neurons/{model}/ablation.h5",
    log:
        "logs/delta/neurons/{model}.ablation.log",
    benchmark:
        "benchmarks/delta/neurons/{model}.ablation.tsv"
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
        facts=graph.delta("facts"),
        neurons=graph.delta("neurons"),
        settings=graph.delta("percentage", "mode", "strength", "controls", "seed"),
        code=graph.code("experiments.delta_ablation", "experiments.session"),
    message:
        "Ablation of neurons of {wildcards.model}"
    script:
        "../scripts/delta_ablation.py"


rule delta_percentage:
    """Which neurons carry a relation, and what does their ablation cost facts and other text?"""
    input:
        data=files("results/delta/neurons/{model}/ablation.h5", graph.delta_rows()),
    output:
        summary=summary("delta/percentage"),
        regressions="results/delta/percentage/regressions.csv",
    log:
        "logs/delta/percentage.log",
    benchmark:
        "benchmarks/delta/percentage.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        models=graph.config.delta.models,
        settings=graph.delta("percentage", "bootstrap", "confidence", "seed"),
        code=graph.code("experiments.delta_tables", "experiments.summaries"),
    message:
        "What ablations cost, in nats and in percent of perplexity"
    script:
        "../scripts/delta_percentage.py"


rule delta_percentage_figures:
    """Figures of delta/percentage."""
    input:
        summary=rules.delta_percentage.output.summary,
    output:
        **figures("delta/percentage"),
    log:
        "logs/delta/percentage.figures.log",
    benchmark:
        "benchmarks/delta/percentage.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        wording=graph.delta("factual")["wording"],
        figures=graph.block("figures"),
        code=graph.code("figures.neurons", "figures.save"),
    message:
        "Figures of delta/percentage"
    script:
        "../scripts/delta_percentage_figures.py"


rule delta_factual:
    """What do every relation's neurons do to every relation's facts?"""
    input:
        data=files("results/delta/neurons/{model}/ablation.h5", graph.delta_rows()),
    output:
        summary=summary("delta/factual"),
        matrix="results/delta/factual/matrix.csv",
        comparison="results/delta/factual/comparison.csv",
        patterns="results/delta/factual/patterns.csv",
    log:
        "logs/delta/factual.log",
    benchmark:
        "benchmarks/delta/factual.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        models=graph.config.delta.models,
        code=graph.code("experiments.delta_tables", "experiments.summaries"),
    message:
        "Every relation's neurons against every relation's facts"
    script:
        "../scripts/delta_factual.py"


rule delta_factual_figures:
    """Figures of delta/factual."""
    input:
        matrix=rules.delta_factual.output.matrix,
        summary=rules.delta_factual.output.summary,
    output:
        **figures("delta/factual"),
    log:
        "logs/delta/factual.figures.log",
    benchmark:
        "benchmarks/delta/factual.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        wording=graph.delta("factual")["wording"],
        figures=graph.block("figures"),
        code=graph.code("figures.neurons", "figures.save"),
    message:
        "Figures of delta/factual"
    script:
        "../scripts/delta_factual_figures.py"


rule delta_tracing_measure:
    """Causal tracing of facts in one model."""
    input:
        manifest=graph.manifest,
        texts=graph.delta_fact_files,
    output:
        table="results/delta/tracing/{model}/traces.csv",
        statistics="results/delta/tracing/{model}/traces.json",
    log:
        "logs/delta/tracing/{model}.log",
    benchmark:
        "benchmarks/delta/tracing/{model}.tsv"
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
        facts=graph.delta("facts", "source", "facts", "bos", "batch_tokens"),
        settings=graph.delta("tracing"),
        code=graph.code("experiments.delta_tracing", "experiments.session"),
    message:
        "Causal tracing of facts in {wildcards.model}"
    script:
        "../scripts/delta_tracing.py"


rule delta_tracing_summary:
    """Summary of delta/tracing."""
    input:
        tables=files("results/delta/tracing/{model}/traces.csv", graph.delta_rows()),
        statistics=files("results/delta/tracing/{model}/traces.json", graph.delta_rows()),
    output:
        table=summary("delta/tracing"),
    log:
        "logs/delta/tracing/summary.log",
    benchmark:
        "benchmarks/delta/tracing/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        models=graph.config.delta.models,
        code=graph.code("experiments.delta_tables", "experiments.summaries"),
    message:
        "Summary of delta/tracing"
    script:
        "../scripts/delta_tracing_summary.py"


rule delta_tracing_figures:
    """Figures of delta/tracing."""
    input:
        tables=files("results/delta/tracing/{model}/traces.csv", graph.delta_rows()),
        summary=rules.delta_tracing_summary.output.table,
    output:
        **figures("delta/tracing"),
    log:
        "logs/delta/tracing/figures.log",
    benchmark:
        "benchmarks/delta/tracing/figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        models=graph.config.delta.models,
        figures=graph.block("figures"),
        code=graph.code("figures.tracing", "figures.save"),
    message:
        "Figures of delta/tracing"
    script:
        "../scripts/delta_tracing_figures.py"
