"""Circuits of small transformers, decided over all their inputs: what is proven, by what, and at what cost.

    python -m benchmarks.transformers [NAME ...] [--data DIR] [--out docs/results/transformers.md]

A section a file: compiled programs, a recogniser of brackets, modular addition, Max-of-4, induction, greater-than, indirect
objects; and circuits of edges. `scale`, which is made where it is named only, says how far proofs reach.
Public models lie in `--data` (see `certify bench`); those trained here in `benchmarks/models`.
"""
