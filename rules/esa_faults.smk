# Extreme sensitivity analyses (esa) that disturb a model: noise on weights, adversarial input, flipped bits.


rule esa_robustness_measure:
    """Noise on the weights of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        draws="results/esa/robustness/{model}/draws.csv",
        levels="results/esa/robustness/{model}/levels.csv",
        statistics="results/esa/robustness/{model}/statistics.json",
    log:
        "logs/esa/robustness/{model}.log",
    benchmark:
        "benchmarks/esa/robustness/{model}.tsv"
    wildcard_constraints:
        model=graph.whole("esa_robustness"),
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.scores_memory("esa_robustness"),
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts"),
        scores=graph.esa("scores"),
        settings=graph.esa("robustness"),
        code=graph.code("experiments.esa_robustness", "experiments.session"),
    message:
        "Noise on the weights of {wildcards.model}"
    script:
        "../scripts/esa_robustness.py"


rule esa_robustness_figures:
    """Figures of esa/robustness: one model."""
    input:
        levels=rules.esa_robustness_measure.output.levels,
    output:
        **figures("esa/robustness"),
    log:
        "logs/esa/robustness/{model}.figures.log",
    benchmark:
        "benchmarks/esa/robustness/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_faults", "figures.save"),
    message:
        "Figures of esa/robustness: {wildcards.model}"
    script:
        "../scripts/esa_robustness_figures.py"


rule esa_robustness_summary:
    """Summary of esa/robustness."""
    input:
        tables=files("results/esa/robustness/{model}/levels.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/robustness"),
    log:
        "logs/esa/robustness/summary.log",
    benchmark:
        "benchmarks/esa/robustness/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/robustness",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/robustness"
    script:
        "../scripts/summary_table.py"


rule esa_adversarial_measure:
    """Attacks on the input of one model."""
    input:
        manifest=graph.manifest,
        facts=sorted(str(path) for path in (HOME / "resources/facts").glob("*.tsv")),
    output:
        attempts="results/esa/adversarial/{model}/attempts.csv",
        effects="results/esa/adversarial/{model}/effects.csv",
        statistics="results/esa/adversarial/{model}/statistics.json",
    log:
        "logs/esa/adversarial/{model}.log",
    benchmark:
        "benchmarks/esa/adversarial/{model}.tsv"
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
        settings=graph.esa("adversarial"),
        code=graph.code("experiments.esa_adversarial", "experiments.session"),
    message:
        "Attacks on the input of {wildcards.model}"
    script:
        "../scripts/esa_adversarial.py"


rule esa_adversarial_figures:
    """Figures of esa/adversarial: one model."""
    input:
        effects=rules.esa_adversarial_measure.output.effects,
    output:
        **figures("esa/adversarial"),
    log:
        "logs/esa/adversarial/{model}.figures.log",
    benchmark:
        "benchmarks/esa/adversarial/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_faults", "figures.save"),
    message:
        "Figures of esa/adversarial: {wildcards.model}"
    script:
        "../scripts/esa_adversarial_figures.py"


rule esa_adversarial_summary:
    """Summary of esa/adversarial."""
    input:
        tables=files("results/esa/adversarial/{model}/effects.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/adversarial"),
    log:
        "logs/esa/adversarial/summary.log",
    benchmark:
        "benchmarks/esa/adversarial/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/adversarial",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/adversarial"
    script:
        "../scripts/summary_table.py"


rule esa_bit_level_measure:
    """Flipped bits of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        faults="results/esa/bit-level/{model}/faults.csv",
        positions="results/esa/bit-level/{model}/positions.csv",
        attack="results/esa/bit-level/{model}/attack.csv",
        precision="results/esa/bit-level/{model}/precision.csv",
        ones="results/esa/bit-level/{model}/ones.csv",
        exponents="results/esa/bit-level/{model}/exponents.csv",
        effects="results/esa/bit-level/{model}/effects.csv",
        statistics="results/esa/bit-level/{model}/statistics.json",
    log:
        "logs/esa/bit-level/{model}.log",
    benchmark:
        "benchmarks/esa/bit-level/{model}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.changing_memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        texts=graph.esa("texts"),
        settings=graph.esa("bit_level"),
        code=graph.code("experiments.esa_bits", "experiments.session"),
    message:
        "Flipped bits of {wildcards.model}"
    script:
        "../scripts/esa_bit_level.py"


rule esa_bit_level_figures:
    """Figures of esa/bit-level: one model."""
    input:
        positions=rules.esa_bit_level_measure.output.positions,
        attack=rules.esa_bit_level_measure.output.attack,
        precision=rules.esa_bit_level_measure.output.precision,
        ones=rules.esa_bit_level_measure.output.ones,
        exponents=rules.esa_bit_level_measure.output.exponents,
    output:
        **figures("esa/bit-level"),
    log:
        "logs/esa/bit-level/{model}.figures.log",
    benchmark:
        "benchmarks/esa/bit-level/{model}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.esa_bits", "figures.save"),
    message:
        "Figures of esa/bit-level: {wildcards.model}"
    script:
        "../scripts/esa_bit_level_figures.py"


rule esa_bit_level_summary:
    """Summary of esa/bit-level."""
    input:
        tables=files("results/esa/bit-level/{model}/effects.csv", graph.rows(prompts=False)),
    output:
        table=summary("esa/bit-level"),
    log:
        "logs/esa/bit-level/summary.log",
    benchmark:
        "benchmarks/esa/bit-level/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="esa/bit-level",
        rows=graph.rows(prompts=False),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of esa/bit-level"
    script:
        "../scripts/summary_table.py"
