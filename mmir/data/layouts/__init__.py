"""Where public data sets keep what."""
