# What is made of all results together: the page results/index.html, and Snakemake's own report.


rule index:
    """The page results/index.html: every table and key figure."""
    input:
        **page.wanted(graph),
        assets=page.assets(),
    output:
        page="results/index.html",
    log:
        "logs/index.log",
    benchmark:
        "benchmarks/index.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        names=page.names(graph),
        docs="../docs" if MAIN and HOME.samefile(".") else None,
        settings=graph.block("page"),
        code=graph.code("report.build"),
    message:
        "Page of all results"
    script:
        "../scripts/index.py"


rule report:
    """Snakemake's own report: every figure and summary with its caption, in one HTML file."""
    input:
        files=graph.targets(),
    output:
        page="results/report.html",
    log:
        "logs/report.log",
    benchmark:
        "benchmarks/report.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        run={
            "snakefile": workflow.main_snakefile,
            "configfiles": [str(path) for path in workflow.config_settings.configfiles],
            "config": "\n".join(workflow.config_settings.config_args or []),
        },
        code=graph.code("report.snakemake_report"),
    message:
        "Report of all results"
    script:
        "../scripts/report.py"
