"""Local features of photos and their matches."""
