"""What a minimal circuit costs: our searches, and the paper's way of asking.

`python -m benchmarks.search --data DIR` searches for minimal circuits around a few inputs of the bench networks, by each
algorithm with its map, witness pool and batches, and once more with one query at a time: a new ladder for each circuit, no
witness kept, no bound shared, as a search that calls a verifier does (arXiv:2602.16823), with our own ladder as that verifier,
and with auto_LiRPA's CROWN on the siamese network behind the same attack. All in one process, one thread, one input after the
other, so that times compare; reading the model and starting up are in nobody's time.
"""
