# Models: trained here, fetched from the hub, or found at a path; each ends in a manifest that all else hangs on.


rule embedded_model:
    """Training one of the embedded models."""
    input:
        corpus=graph.corpus(),
    output:
        config="resources/models/{model}/config.json",
        weights="resources/models/{model}/model.safetensors",
        generation="resources/models/{model}/generation_config.json",
        tokenizer="resources/models/{model}/tokenizer.json",
        tokenizer_config="resources/models/{model}/tokenizer_config.json",
        report="resources/models/{model}/training.json",
    log:
        "logs/models/{model}/train.log",
    benchmark:
        "benchmarks/models/{model}/train.tsv"
    wildcard_constraints:
        model=graph.names("models", source="embedded"),
    conda:
        "../envs/run.yaml"
    threads: graph.config.training.threads
    params:
        architecture=lambda wildcards: graph.entry(wildcards)["architecture"],
        training=graph.block("training"),
        code=graph.code("models.embedded"),
    message:
        "Training the embedded model {wildcards.model}"
    script:
        "../scripts/embedded_model.py"


rule hub_model:
    """Fetching one model from the hub."""
    output:
        config="resources/models/{model}/config.json",
    log:
        "logs/models/{model}/fetch.log",
    benchmark:
        "benchmarks/models/{model}/fetch.tsv"
    wildcard_constraints:
        model=graph.names("models", source="hub"),
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        entry=graph.entry,
    message:
        "Fetching {wildcards.model} from the hub"
    script:
        "../scripts/hub_model.py"


rule manifest:
    """Manifest of one model."""
    input:
        files=graph.model_files,
    output:
        manifest="resources/models/{model}/manifest.json",
    log:
        "logs/models/{model}/manifest.log",
    benchmark:
        "benchmarks/models/{model}/manifest.tsv"
    conda:
        "../envs/run.yaml"
    params:
        entry=graph.entry,
        directory=graph.directory,
        code=graph.code("models.manifest"),
    message:
        "Manifest of {wildcards.model}"
    script:
        "../scripts/manifest.py"
