"""How many candidate circuits are bounded a second: the native backend beside auto_LiRPA, with peak memory and tightness.

    python -m benchmarks.throughput [--data DIR] [--quick] [--json FILE] [--lirpa07 PATH]

- Every contender runs in a process of its own, all are kept alive, and measurements take turns (A B A B), since machines are
  noisy; rates are medians, and ratios are ratios of medians.
- The claim is the same for all: `|f_C - f_G|_inf <= tolerance` on the region, one number bounded for each circuit (the margin).
- The native backend opens the query anew for every measurement, so the model's own bounds are in its time.
- auto_LiRPA is called as its documentation shows: `nn.Module`, `BoundedModule`, `compute_bounds(method="backward")`, that is
  CROWN; straight, not through our adapter, so none of our guard checks are in its time. The two-branch module with masks as
  plain inputs is built once and *not* timed, only `compute_bounds` is: the cheapest fresh query that its interface allows.
"""
