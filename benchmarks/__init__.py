"""Speed of torch_lif against plain loops in PyTorch: `python -m benchmarks --help`.

cases: the table of what is measured. suite: builds, checks and times it. measure: the clock. report: table and JSON.
"""
