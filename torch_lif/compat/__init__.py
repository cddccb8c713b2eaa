"""Other libraries' names and signatures over the fused kernels: change the import, keep the script.

`torch_lif.compat.rockpool`, `torch_lif.compat.sinabs`, `torch_lif.compat.hxtorch`, `torch_lif.compat.norse`; none needs
the library itself to be installed, but where an object of its own is returned. docs/compat.md lists every difference,
with its reason.
"""
