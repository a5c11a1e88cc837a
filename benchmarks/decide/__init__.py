"""What is decided, how fast, and how tightly it is bounded: `certify` beside other verifiers, in the same run.

    python -m benchmarks.decide [--data DIR] [--peers DIR] [--out DIR] [--resume] [part ...]

Parts, all of them where none is named:

- `queries`: the questions of `queries/siamese_256x2.json`. Every tool in a process of its own, with the same limit.
- `sequence`: for each network the circuits that a greedy deletion meets, one question each. `certify` decides them one after
  another in one process, the model loaded once; peers, and `certify` once more as a cold command, are asked one process a
  question: all of them where they are few, else the first, middle and last few.
- `gap`: the proven bound of the deviation less the worst deviation found, by share ablated and depth, for siamese, linear,
  difference and optimised difference bounds; and which rung of the ladder decides such questions.

Peers are installed by `python -m benchmarks.peers.install --into DIR`. Everybody has one thread, is told the same limit and is
ended the same grace after it; times are wall times with start-up. A peer's counterexample that does not replay is `spurious`,
one that only holds within VNN-COMP's tolerance `near`: neither counts.
Rows go to `OUT/rows.jsonl` as they come, and tables are made of those rows only.
"""
