"""Fuzzing of everything that reads: damaged files of every parser, and folders of known pieces with an oracle."""
