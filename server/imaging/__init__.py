"""What is stored: studies and series in, masks out."""
