"""From a question to a verdict: the rungs, their order and their cost."""
