"""What is on disk: cell folders, claims, rows, shared base latents, step files; and their checks."""
