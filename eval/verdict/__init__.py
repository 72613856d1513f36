"""The confirmatory test of `conf/verdict/search.yaml`: make its images, score them, and write what they answer."""
