"""The trusted base of a certificate: what has to be right for a confirmed certificate to be true.

`certify check` re-derives a claim from the files that state it. It takes no bound from the certificate, only splits,
slopes, weights and multipliers, whose values can make a bound loose and never wrong, and witnesses, which it replays. It
shares no code with the engine that found the proof: it imports nothing of `bounds`, nor of `verify` beyond this package
(import-linter holds it to that), and no torch.

What is trusted: the files of this package; `specs.load` and `specs.arrays`, by which the engine too reads what
`circuit.json`, the spec and files of numbers state; numpy's float64 arithmetic (IEEE 754, any order of summation), and that its
exp and tanh, and the C library's erf, are within 2^-48 of exact, relatively; ONNX's reference evaluator, for what one affine
operator or one pooling window does, and onnxruntime for witnesses; Python's zip, JSON, fractions and sha256.

What is confirmed: `certified`, that the claim holds for the real-number function of the stored weights (what is folded from
several of them, as a batch normalisation, or divides by a size, as an average, is rounded to float64 first) on all of every
region, centres and patched values as the model receives them; `certified in float32`, that it holds for every float32
evaluation in the sense of `drift`; `falsified`, that the witness violates it in onnxruntime and (but for float32 claims) in
real arithmetic; a level of minimality and a lower bound, that the refuted circuits which these need are refuted in that same
sense, that there are enough of them, and, where one refutation is used for smaller circuits, that the claim is monotone.

To read it, in this order: interval, operators, program, recipe and model (what is computed), tokens, claim and agreement (what
is asked), points (regions of finitely many inputs, which are looked at one by one), enclosure, part and proof (how bounds are
derived on others), tree and certificate (what must add up), witness, minimality, drift.
"""
