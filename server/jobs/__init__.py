"""The promise: one row a job, kept from the click to the mask."""
