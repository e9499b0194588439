"""What lies on disk: images, pairs, labels and their checks. Knows no host."""
