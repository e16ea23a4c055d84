"""Dense depth of views whose cameras are known."""
