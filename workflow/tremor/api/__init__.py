"""Tremor in Python and in notebooks: the workflow's instruments without Snakemake (docs/python.md).

`places` finds projects, configurations and models; `opening` opens them; `model` and `point` measure; `results`,
`recordings` and `weights` hold what comes back, without torch. No method of measurement is of this package: every
number comes from the code that the workflow runs.
"""
