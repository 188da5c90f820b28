"""What the platform keeps about itself: which version of what each partition was computed from."""
