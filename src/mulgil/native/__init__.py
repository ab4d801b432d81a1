"""From the text of a kernel to machine code that runs on all cores.

Nothing here knows of graphs, ops or tensors: `compile` writes the kernels. Reading order: `loader` (what a kernel is, and calling
it), `hardware` (for which processor), `llvm`, `jit` and `vector` (text to machine code), `build` (several at once), `cache` (across
processes), `threads` (on all cores), `blas` (the products that are left to a library).
"""
