"""Encodings that several formats share: palettes, few bits a number, glTF containers."""
