"""Evaluation that others can trust: splits, protocols, baselines, jobs, reports."""
