# Word by word through PDF documents (pdf): one teacher-forced pass for each model and document.


rule pdf_measure:
    """Every word of one document under one model."""
    input:
        manifest=graph.manifest,
        document=graph.document,
    output:
        data="results/pdf/{model}/{document}/tokens.h5",
        table="results/pdf/{model}/{document}/words.csv",
        statistics="results/pdf/{model}/{document}/statistics.json",
    log:
        "logs/pdf/{model}/{document}.log",
    benchmark:
        "benchmarks/pdf/{model}/{document}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=lambda wildcards: graph.config.pdf.dtype or graph.dtype(wildcards.model),
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings=graph.block("pdf", "window", "stride", "bos", "batch_size", "checkpoint"),
        code=graph.code("experiments.document", "experiments.session"),
    message:
        "Every word of '{wildcards.document}' under {wildcards.model}"
    script:
        "../scripts/pdf.py"


rule pdf_figures:
    """Figures of one document under one model."""
    input:
        data=rules.pdf_measure.output.data,
        table=rules.pdf_measure.output.table,
    output:
        **figures("pdf"),
    log:
        "logs/pdf/{model}/{document}.figures.log",
    benchmark:
        "benchmarks/pdf/{model}/{document}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.documents", "figures.save"),
    message:
        "Figures of '{wildcards.document}' under {wildcards.model}"
    script:
        "../scripts/pdf_figures.py"


rule pdf_summary:
    """Summary of the documents."""
    input:
        statistics=files(
            "results/pdf/{model}/{document}/statistics.json",
            graph.rows(prompts=False, more={"document": graph.config.pdf.select}),
        ),
    output:
        table=summary("pdf"),
    log:
        "logs/pdf/summary.log",
    benchmark:
        "benchmarks/pdf/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="pdf",
        rows=graph.rows(prompts=False, more={"document": graph.config.pdf.select}),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the documents"
    script:
        "../scripts/summary.py"
