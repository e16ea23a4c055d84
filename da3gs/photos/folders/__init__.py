"""Folders of photos: what lies in them, what of it is a photo, and which names belong together."""
