"""Decisions of the engine as pure functions: no I/O, no clock, no chance."""
