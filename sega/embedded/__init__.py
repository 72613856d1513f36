"""The small model that ships with the project: its world, its pipeline, its scorer."""
