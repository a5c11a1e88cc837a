"""Models, suites and measurements. Uses the three rooms; nothing uses it, and it is not in the wheel."""
