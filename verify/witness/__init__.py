"""Points of a claim: searched for, kept, replayed on the original model, counted as evidence."""
