"""Rules of messaging that need no I/O, no clock and no chance."""
