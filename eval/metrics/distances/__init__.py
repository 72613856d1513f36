"""Values of whole sets: distances to references, Inception Score, precision and recall."""
