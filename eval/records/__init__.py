"""What lies beside a run: images, rows, step records, scores."""
