"""Pure tensor maths of rotations, cameras, similarities and spherical harmonics. No files, no records, no state."""
