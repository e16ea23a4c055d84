"""Decoding of one picture: its header, its pixels as upright sRGB, its mask."""
