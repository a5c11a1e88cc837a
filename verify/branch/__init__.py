"""Branch and bound on one circuit."""
