"""Other libraries' names and signatures over the fused kernels: change the import, keep the script.

`torch_lif.compat.rockpool`, `torch_lif.compat.sinabs`, `torch_lif.compat.hxtorch`, `torch_lif.compat.norse`. None of
them needs the library itself, except where an object of the library is returned. docs/compat.md lists every difference,
with its reason.
"""
