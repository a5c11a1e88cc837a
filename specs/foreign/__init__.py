"""Circuits as other tools have them, and the way from there to sites of a model."""
