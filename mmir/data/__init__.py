"""Data on disk: images, pairs, labels and their checks. Independent of any host."""
