"""A search for minimal circuits as it is run, written down and reported."""
