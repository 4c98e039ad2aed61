# Shards of the analyses of weights: scores by tensor, changed models by change; the rest of the pattern is in shards.smk.


rule critical_rankings_shard:
    """Scores of some tensors of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        part=temp("results/critical_weights/{model}/shards/rankings.{shard}.h5"),
    log:
        "logs/critical_weights/{model}.rankings.{shard}.log",
    benchmark:
        "benchmarks/critical_weights/{model}.rankings.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("critical_rankings"),
        shard=graph.shards.pattern,
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
        "Scores of some tensors ({wildcards.shard}) of {wildcards.model}"
    script:
        "../scripts/critical_rankings_shard.py"


rule critical_rankings_gather:
    """Scores and rankings of the weights of one model, gathered."""
    input:
        parts=graph.shards.parts("results/critical_weights/{model}/shards/rankings.{shard}.h5", "critical_rankings"),
    output:
        rankings="results/critical_weights/{model}/rankings.parquet",
        scores="results/critical_weights/{model}/scores.h5",
        components="results/critical_weights/{model}/components.csv",
        statistics="results/critical_weights/{model}/sensitivity_statistics.json",
    log:
        "logs/critical_weights/{model}.rankings.gather.log",
    benchmark:
        "benchmarks/critical_weights/{model}.rankings.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("critical_rankings"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.critical_results", "store.shards"),
    message:
        "Scores and rankings of the weights of {wildcards.model}, gathered"
    script:
        "../scripts/critical_rankings_gather.py"


rule critical_weights_shard:
    """Effects of some changes of the critical weights of one model."""
    input:
        manifest=graph.manifest,
        rankings=rules.critical_rankings.output.rankings,
        texts=graph.text_files("calibration", "heldout"),
    output:
        part=temp("results/critical_weights/{model}/shards/effects.{shard}.h5"),
    log:
        "logs/critical_weights/{model}.{shard}.log",
    benchmark:
        "benchmarks/critical_weights/{model}.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("critical_weights"),
        shard=graph.shards.pattern,
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
        "Effects of some changes ({wildcards.shard}) of the critical weights of {wildcards.model}"
    script:
        "../scripts/critical_weights_shard.py"


rule critical_weights_gather:
    """Effects of changing the critical weights of one model, gathered."""
    input:
        parts=graph.shards.parts("results/critical_weights/{model}/shards/effects.{shard}.h5", "critical_weights"),
    output:
        table="results/critical_weights/{model}/perturbation_results.csv",
        controls="results/critical_weights/{model}/controls.csv",
        data="results/critical_weights/{model}/effects.h5",
        statistics="results/critical_weights/{model}/experiment_summary.json",
    log:
        "logs/critical_weights/{model}.gather.log",
    benchmark:
        "benchmarks/critical_weights/{model}.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("critical_weights"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.critical_effects", "store.shards"),
    message:
        "Effects of changing the critical weights of {wildcards.model}, gathered"
    script:
        "../scripts/critical_weights_gather.py"


rule esa_super_weights_shard:
    """Scores of some tensors of one model for its super weights."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        part=temp("results/esa/super-weights/{model}/shards/scores.{shard}.h5"),
    log:
        "logs/esa/super-weights/{model}.{shard}.log",
    benchmark:
        "benchmarks/esa/super-weights/{model}.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("esa_super_weights"),
        shard=graph.shards.pattern,
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
        "Scores of some tensors ({wildcards.shard}) of {wildcards.model} for its super weights"
    script:
        "../scripts/esa_super_weights_shard.py"


# The model runs here too: what the rankings name is zeroed, and matched controls are.
rule esa_super_weights_gather:
    """Super weights of one model, from gathered scores."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
        parts=graph.shards.parts("results/esa/super-weights/{model}/shards/scores.{shard}.h5", "esa_super_weights"),
    output:
        weights="results/esa/super-weights/{model}/weights.csv",
        peaks="results/esa/super-weights/{model}/peaks.csv",
        effects="results/esa/super-weights/{model}/effects.csv",
        changes="results/esa/super-weights/{model}/changes.csv",
        statistics="results/esa/super-weights/{model}/statistics.json",
    log:
        "logs/esa/super-weights/{model}.gather.log",
    benchmark:
        "benchmarks/esa/super-weights/{model}.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("esa_super_weights"),
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
        scores=graph.esa("scores"),
        settings=graph.esa("super_weights"),
        code=graph.code("experiments.esa_super_weights", "experiments.session"),
    message:
        "Super weights of {wildcards.model}, from gathered scores"
    script:
        "../scripts/esa_super_weights.py"


rule esa_compare_sensitivity_shard:
    """Every sensitivity method on some tensors of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        part=temp("results/esa/compare-sensitivity/{model}/shards/scores.{shard}.h5"),
    log:
        "logs/esa/compare-sensitivity/{model}.{shard}.log",
    benchmark:
        "benchmarks/esa/compare-sensitivity/{model}.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("esa_compare_sensitivity"),
        shard=graph.shards.pattern,
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
        "Every sensitivity method on some tensors ({wildcards.shard}) of {wildcards.model}"
    script:
        "../scripts/esa_compare_sensitivity_shard.py"


rule esa_compare_sensitivity_gather:
    """Comparison of the sensitivity methods of one model, gathered."""
    input:
        parts=graph.shards.parts(
            "results/esa/compare-sensitivity/{model}/shards/scores.{shard}.h5", "esa_compare_sensitivity"
        ),
    output:
        weights="results/esa/compare-sensitivity/{model}/weights.csv",
        methods="results/esa/compare-sensitivity/{model}/methods.csv",
        pairs="results/esa/compare-sensitivity/{model}/pairs.csv",
        statistics="results/esa/compare-sensitivity/{model}/statistics.json",
    log:
        "logs/esa/compare-sensitivity/{model}.gather.log",
    benchmark:
        "benchmarks/esa/compare-sensitivity/{model}.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("esa_compare_sensitivity"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.esa_compare_results", "store.shards"),
    message:
        "Comparison of the sensitivity methods of {wildcards.model}, gathered"
    script:
        "../scripts/esa_compare_sensitivity_gather.py"


rule esa_robustness_shard:
    """Some draws of noise on the weights of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        part=temp("results/esa/robustness/{model}/shards/draws.{shard}.h5"),
    log:
        "logs/esa/robustness/{model}.{shard}.log",
    benchmark:
        "benchmarks/esa/robustness/{model}.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("esa_robustness"),
        shard=graph.shards.pattern,
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
        "Some draws of noise ({wildcards.shard}) on the weights of {wildcards.model}"
    script:
        "../scripts/esa_robustness_shard.py"


rule esa_robustness_gather:
    """Noise on the weights of one model, gathered."""
    input:
        parts=graph.shards.parts("results/esa/robustness/{model}/shards/draws.{shard}.h5", "esa_robustness"),
    output:
        draws="results/esa/robustness/{model}/draws.csv",
        levels="results/esa/robustness/{model}/levels.csv",
        statistics="results/esa/robustness/{model}/statistics.json",
    log:
        "logs/esa/robustness/{model}.gather.log",
    benchmark:
        "benchmarks/esa/robustness/{model}.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("esa_robustness"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.esa_robustness_results", "store.shards"),
    message:
        "Noise on the weights of {wildcards.model}, gathered"
    script:
        "../scripts/esa_robustness_gather.py"


rule esa_targeted_perturbation_shard:
    """Some shares of the most important weights of one model."""
    input:
        manifest=graph.manifest,
        texts=graph.text_files("calibration", "heldout"),
    output:
        part=temp("results/esa/targeted-perturbation/{model}/shards/changes.{shard}.h5"),
    log:
        "logs/esa/targeted-perturbation/{model}.{shard}.log",
    benchmark:
        "benchmarks/esa/targeted-perturbation/{model}.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("esa_targeted_perturbation"),
        shard=graph.shards.pattern,
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
        "Some shares of the most important weights ({wildcards.shard}) of {wildcards.model}"
    script:
        "../scripts/esa_targeted_perturbation_shard.py"


rule esa_targeted_perturbation_gather:
    """Rising shares of the most important weights of one model, gathered."""
    input:
        parts=graph.shards.parts(
            "results/esa/targeted-perturbation/{model}/shards/changes.{shard}.h5", "esa_targeted_perturbation"
        ),
    output:
        effects="results/esa/targeted-perturbation/{model}/effects.csv",
        draws="results/esa/targeted-perturbation/{model}/draws.csv",
        statistics="results/esa/targeted-perturbation/{model}/statistics.json",
    log:
        "logs/esa/targeted-perturbation/{model}.gather.log",
    benchmark:
        "benchmarks/esa/targeted-perturbation/{model}.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("esa_targeted_perturbation"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.esa_targeted_results", "store.shards"),
    message:
        "Rising shares of the most important weights of {wildcards.model}, gathered"
    script:
        "../scripts/esa_targeted_perturbation_gather.py"
