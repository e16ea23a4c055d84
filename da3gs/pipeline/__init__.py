"""The verbs: what the commands do, as functions."""
