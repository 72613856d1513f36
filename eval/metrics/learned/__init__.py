"""Networks with learned weights: features, CLIP, rewards, judges, image quality."""
