"""Speed of torch_lif against plain loops in PyTorch and other libraries: `python -m benchmarks --help`.

cases: the table of what is measured. contenders, peers: by whom. suite: builds, checks and times it. measure: the
clock. layer, calls, network: the subcommands; calls has a table of its own. report: what a run found, as text and JSON.
page, summary: a page and plots of it.
"""
