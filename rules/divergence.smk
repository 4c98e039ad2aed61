# exp4: two recordings of one model compared, from where they part to the vectors that decided it; no model is loaded.


rule exp4_divergence:
    """Where the texts of two platforms part."""
    input:
        a=graph.first_recordings,
        b=graph.second_recordings,
    output:
        table="results/exp4/{model}/{pair}/divergence.parquet",
        document="results/exp4/{model}/{pair}/divergence.json",
    log:
        "logs/exp4/{model}/{pair}.divergence.log",
    benchmark:
        "benchmarks/exp4/{model}/{pair}.divergence.tsv"
    conda:
        "../envs/run.yaml"
    params:
        pair=graph.platforms_of,
        code=graph.code("experiments.divergence"),
    message:
        "Where '{wildcards.pair}' parts: {wildcards.model}"
    script:
        "../scripts/exp4_divergence.py"


rule exp4_dimensions:
    """Dimensions that differ between two platforms."""
    input:
        a=graph.first_recordings,
        b=graph.second_recordings,
        document=rules.exp4_divergence.output.document,
    output:
        table="results/exp4/{model}/{pair}/dimensions.csv",
        statistics="results/exp4/{model}/{pair}/dimensions.json",
        figure=figures("exp4")["dimensions"],
    log:
        "logs/exp4/{model}/{pair}.dimensions.log",
    benchmark:
        "benchmarks/exp4/{model}/{pair}.dimensions.tsv"
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.block("exp4", "threshold_powers", "ulps"),
        figures=graph.block("figures"),
        code=graph.code("experiments.dimensions", "figures.divergence", "figures.save"),
    message:
        "Changed dimensions of '{wildcards.pair}': {wildcards.model}"
    script:
        "../scripts/exp4_dimensions.py"


rule exp4_drift:
    """Drift of the states of two platforms."""
    input:
        rows=rules.exp4_divergence.output.table,
        document=rules.exp4_divergence.output.document,
    output:
        table="results/exp4/{model}/{pair}/drift.csv",
        figure=figures("exp4")["drift"],
    log:
        "logs/exp4/{model}/{pair}.drift.log",
    benchmark:
        "benchmarks/exp4/{model}/{pair}.drift.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("experiments.dimensions", "figures.divergence", "figures.save"),
    message:
        "Drift of '{wildcards.pair}': {wildcards.model}"
    script:
        "../scripts/exp4_drift.py"


rule exp4_embeddings:
    """Embeddings of the prompts on one of two platforms."""
    input:
        a=graph.first_recordings,
        b=graph.second_recordings,
        document=rules.exp4_divergence.output.document,
    output:
        data="results/exp4/{model}/{pair}/embeddings_{side}.h5",
    log:
        "logs/exp4/{model}/{pair}.embeddings_{side}.log",
    benchmark:
        "benchmarks/exp4/{model}/{pair}.embeddings_{side}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        code=graph.code("experiments.embeddings"),
    message:
        "Embeddings before '{wildcards.pair}' parts, side {wildcards.side}: {wildcards.model}"
    script:
        "../scripts/exp4_embeddings.py"


rule exp4_embedding_comparison:
    """Embeddings of the prompts on two platforms, compared."""
    input:
        a="results/exp4/{model}/{pair}/embeddings_a.h5",
        b="results/exp4/{model}/{pair}/embeddings_b.h5",
    output:
        table="results/exp4/{model}/{pair}/embeddings.csv",
        rows="results/exp4/{model}/{pair}/embedding_rows.parquet",
        statistics="results/exp4/{model}/{pair}/embeddings.json",
        figure=figures("exp4")["embeddings"],
    log:
        "logs/exp4/{model}/{pair}.embeddings.log",
    benchmark:
        "benchmarks/exp4/{model}/{pair}.embeddings.tsv"
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.block("exp4", "threshold_powers"),
        figures=graph.block("figures"),
        code=graph.code("experiments.embeddings", "figures.divergence", "figures.save"),
    message:
        "Embeddings of '{wildcards.pair}' compared: {wildcards.model}"
    script:
        "../scripts/exp4_embedding_comparison.py"


rule exp4_logits:
    """Logits where the texts of two platforms part."""
    input:
        manifest=graph.manifest,
        a=graph.first_recordings,
        b=graph.second_recordings,
        document=rules.exp4_divergence.output.document,
    output:
        table="results/exp4/{model}/{pair}/top_tokens.csv",
        rows="results/exp4/{model}/{pair}/top_rows.csv",
        figure=figures("exp4")["logits"],
    log:
        "logs/exp4/{model}/{pair}.logits.log",
    benchmark:
        "benchmarks/exp4/{model}/{pair}.logits.tsv"
    conda:
        "../envs/run.yaml"
    params:
        directory=graph.directory,
        pair=graph.platforms_of,
        settings=graph.block("exp4", "top"),
        figures=graph.block("figures"),
        code=graph.code("experiments.top_logits", "figures.divergence", "figures.save"),
    message:
        "Logits where '{wildcards.pair}' parts: {wildcards.model}"
    script:
        "../scripts/exp4_logits.py"


rule exp4_angles_measure:
    """Angles to the unembedding vectors: one model on one platform."""
    input:
        recordings=graph.platform_recordings,
        unembedding=graph.platform_unembedding,
    output:
        **figures("exp4/angles"),
        data="results/exp4/angles/{model}/{platform}/angles.parquet",
        table="results/exp4/angles/{model}/{platform}/ranks.csv",
        statistics="results/exp4/angles/{model}/{platform}/angles.json",
    log:
        "logs/exp4/angles/{model}/{platform}.log",
    benchmark:
        "benchmarks/exp4/angles/{model}/{platform}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.block("exp4", "ranks", "bins", "block"),
        figures=graph.block("figures"),
        code=graph.code("experiments.angles", "figures.angles", "figures.save"),
    message:
        "Angles to the unembedding vectors: {wildcards.model} on '{wildcards.platform}'"
    script:
        "../scripts/exp4_angles.py"


rule exp4_angles_summary:
    """Summary of the angles of exp4."""
    input:
        tables=files("results/exp4/angles/{model}/{platform}/ranks.csv", graph.recorded()),
    output:
        table=summary("exp4/angles"),
    log:
        "logs/exp4/angles/summary.log",
    benchmark:
        "benchmarks/exp4/angles/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp4/angles",
        rows=graph.recorded(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the angles of exp4"
    script:
        "../scripts/summary_table.py"


rule exp4_measure:
    """All numbers of exp4 for one model and two platforms."""
    input:
        divergence=rules.exp4_divergence.output.document,
        dimensions=rules.exp4_dimensions.output.statistics,
        embeddings=rules.exp4_embedding_comparison.output.statistics,
        logits=rules.exp4_logits.output.rows,
        drift=rules.exp4_drift.output.table,
        angles=graph.pair_angles,
    output:
        statistics="results/exp4/{model}/{pair}/statistics.json",
    log:
        "logs/exp4/{model}/{pair}.log",
    benchmark:
        "benchmarks/exp4/{model}/{pair}.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        code=graph.code("experiments.divergence_summary"),
    message:
        "exp4 of '{wildcards.pair}': {wildcards.model}"
    script:
        "../scripts/exp4.py"


rule exp4_summary:
    """Summary of exp4."""
    input:
        statistics=files("results/exp4/{model}/{pair}/statistics.json", graph.pair_rows()),
    output:
        table=summary("exp4"),
    log:
        "logs/exp4/summary.log",
    benchmark:
        "benchmarks/exp4/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp4",
        rows=graph.pair_rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp4"
    script:
        "../scripts/summary.py"
