"""On-disk layouts of public datasets."""
