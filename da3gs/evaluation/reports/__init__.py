"""Reports of evaluations: statistics, pages, comparison of two."""
